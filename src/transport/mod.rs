//! What lies between the bytes of a socket and the bytes of MQTT: the PROXY header that a load balancer puts in front,
//! and WebSocket.
//!
//! These rooms hold codecs: state machines with no socket and no clock, fed with bytes of any segmentation.

pub mod proxy;
pub mod ws;
