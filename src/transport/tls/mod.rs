//! TLS 1.2 and 1.3 by rustls: sessions from bytes to bytes, and what they are set up with.

mod hello;
mod kernel;
mod load;
mod names;
mod resolver;
mod revocation;
mod session;
mod settings;
mod verifier;

pub use self::kernel::KernelTls;
pub use self::load::LoadError;
pub use self::names::names;
pub use self::session::{Failure, RECORD_BYTES_MAX, Session};
pub use self::settings::Settings;
