//! The transports driven by hand: real cores behind them, clients of other code before them, no sockets.

mod client;
mod host;
mod hostile;
mod identity;
mod known;
mod tls;
mod wrapped;
