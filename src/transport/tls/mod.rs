//! TLS 1.2 and 1.3 by rustls: sessions from bytes to bytes, and what they are set up with.

mod load;
mod names;
mod resolver;
mod session;
mod settings;

pub use self::load::LoadError;
pub use self::names::{NameError, names};
pub use self::session::{Failure, RECORD_BYTES_MAX, Session};
pub use self::settings::Settings;
