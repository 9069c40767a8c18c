//! Whether this kernel could encrypt by itself (kTLS, `CONFIG_TLS`).
//!
//! It is tried, on a connection to ourselves: what `/proc` lists are the modules that are loaded already, and the kernel loads
//! this one when it is asked for. It is only told; sessions here encrypt on their own (ARCHITECTURE.md says why).

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpUlp;

/// What came of the trial.
#[derive(Debug)]
pub enum KernelTls {
    /// The kernel has it.
    There,
    /// It was not built, or its module is not there or may not be loaded.
    NotThere,
    /// It could not be tried.
    Untried(io::Error),
}

impl KernelTls {
    /// Tries it.
    pub fn of_this_host() -> KernelTls {
        match connection().and_then(|connection| Ok(setsockopt(&connection, TcpUlp::default(), b"tls")?)) {
            Ok(()) => KernelTls::There,
            Err(error) if error.kind() == io::ErrorKind::NotFound => KernelTls::NotThere,
            Err(error) => KernelTls::Untried(error),
        }
    }
}

/// A protocol is put above TCP only where it is connected.
fn connection() -> io::Result<TcpStream> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    TcpStream::connect(listener.local_addr()?)
}

impl fmt::Display for KernelTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelTls::There => f.write_str("in the kernel too, and off"),
            KernelTls::NotThere => f.write_str("not in the kernel"),
            KernelTls::Untried(error) => write!(f, "in the kernel could not be tried ({error}), and is off"),
        }?;
        f.write_str(": the broker encrypts by itself")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel lists it once it was loaded, and the trial has it loaded.
    #[test]
    fn the_trial_finds_what_the_kernel_lists_afterwards() {
        let found = KernelTls::of_this_host();
        let listed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap();
        let is_listed = listed.split_whitespace().any(|name| name == "tls");
        assert_eq!(matches!(found, KernelTls::There), is_listed, "{found:?}, {listed}");
        assert_eq!(matches!(found, KernelTls::NotThere), !is_listed, "{found:?}, {listed}");
    }
}
