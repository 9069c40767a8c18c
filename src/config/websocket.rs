//! `[listener.websocket]`: what a listener takes from clients that speak WebSocket.

use serde::{Deserialize, Serialize};

use super::units;

/// WebSocket of one listener.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// The one path that clients may ask for.
    pub path: String,
    /// Origins whose web pages may connect, like `https://example.org`; `*` is all. None: see
    /// [`Config::needs_credentials`](super::Config::needs_credentials).
    pub origins: Vec<String>,
    /// The longest request, in bytes.
    #[serde(with = "units::bytes")]
    pub request_bytes_max: u32,
    /// The longest frame, in bytes.
    #[serde(with = "units::bytes")]
    pub frame_bytes_max: u32,
}

impl Default for WebSocket {
    fn default() -> WebSocket {
        WebSocket {
            path: "/mqtt".to_owned(),
            origins: Vec::new(),
            request_bytes_max: 8 * 1024,
            frame_bytes_max: 16 * 1024 * 1024,
        }
    }
}
