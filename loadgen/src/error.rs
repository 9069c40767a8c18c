//! What ends a run without a result, each with what to do about it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ring could not be set up, or failed.
    #[error(
        "io_uring: {0} (the generator needs Linux 6.1 or newer, kernel.io_uring_disabled = 0 and no seccomp filter)"
    )]
    Ring(#[source] io::Error),
    /// No TCP connection.
    #[error("connection {count} to {address}: {source}{}", remedy(source))]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// How many connections there were by then, this one included.
        count: usize,
        /// Why not.
        source: io::Error,
    },
    /// CONNACK with a code other than 0.
    #[error("the broker refused client {client} with CONNACK code {code:#04x}: does it allow anonymous clients?")]
    Refused {
        /// Which client.
        client: usize,
        /// The return or reason code.
        code: u8,
    },
    /// SUBACK with a failure code.
    #[error("the broker refused the subscription of client {client} with SUBACK code {code:#04x}")]
    SubscriptionRefused {
        /// Which client.
        client: usize,
        /// The return or reason code.
        code: u8,
    },
    /// The peer ended a connection that should have stayed.
    #[error("the broker ended the connection of client {client}: {reason}; see its log")]
    Closed {
        /// Which client.
        client: usize,
        /// How.
        reason: io::Error,
    },
    /// The peer sent what a client can't accept.
    #[error("client {client} received {what}")]
    Protocol {
        /// Which client.
        client: usize,
        /// What it was.
        what: String,
    },
    /// Nothing more came although something was due.
    #[error("nothing arrived for {waited:?} while {missing} {what} were due: lost, or the broker hangs")]
    Stalled {
        /// For how long.
        waited: Duration,
        /// How many were due.
        missing: u64,
        /// Of what.
        what: &'static str,
    },
    /// The operator ended it before there was anything to report.
    #[error("interrupted before the measurement began")]
    Interrupted,
    /// A broker that `compare` should start did not.
    #[error("broker {name}: {what}")]
    Broker {
        /// Its name on the command line.
        name: String,
        /// What went wrong.
        what: String,
    },
    /// An option that can't be followed.
    #[error("{0}")]
    Usage(String),
    /// A file of results or of /proc.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// What went wrong.
        source: io::Error,
    },
}

/// What an operator can do about a failed `connect`.
fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => " (raise the limit on open files: ulimit -n)",
        Some(libc::EADDRNOTAVAIL) => " (out of local ports: widen net.ipv4.ip_local_port_range)",
        Some(libc::ECONNREFUSED) => " (is the broker running and listening there?)",
        _ => "",
    }
}
