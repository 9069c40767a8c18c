//! TLS 1.2 and 1.3 by rustls: sessions from bytes to bytes, and what they are set up with.

mod load;
mod names;
mod resolver;
mod revocation;
mod session;
mod settings;
mod verifier;

pub use self::load::LoadError;
pub use self::names::names;
pub use self::session::{Failure, RECORD_BYTES_MAX, Session};
pub use self::settings::Settings;

/// Whether the kernel could encrypt by itself (`CONFIG_TLS`, its module loaded). It is only asked: sessions here encrypt on
/// their own.
pub fn is_in_kernel() -> bool {
    let protocols = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
    protocols.split_whitespace().any(|name| name == "tls")
}
