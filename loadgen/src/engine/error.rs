//! What ends a run without a result, each with what to do about it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ring could not be set up, or failed.
    #[error("io_uring: {source} ({})", ring_remedy(source))]
    Ring {
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread could not be started or pinned.
    #[error("can't run on CPU {0}: is it online, and allowed by taskset or a cgroup?")]
    Cpu(usize),
    /// The plan asks for what can't be done or can't be checked.
    #[error("{0}")]
    Plan(String),
    /// No TCP connection.
    #[error("connection {count} to {address}: {source}{}", remedy(source))]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// How many connections of this thread were asked for by then, this one included.
        count: u64,
        /// Why not.
        source: io::Error,
    },
    /// CONNACK with a code other than 0.
    #[error("{address} refused {client} with CONNACK code {code:#04x} ({}){}", connack(*code), connack_remedy(*code))]
    Refused {
        /// Who refused.
        address: SocketAddr,
        /// Which client.
        client: String,
        /// The return or reason code.
        code: u8,
    },
    /// The session of a client is there before the client is.
    #[error(
        "the broker holds a session of {client} from an earlier run, and messages in it that this run knows nothing of: \
         clear them by a short run with --clean, restart the broker, or take other names (--client-id)"
    )]
    Leftover {
        /// Which client.
        client: String,
    },
    /// SUBACK with a failure code.
    #[error(
        "the broker refused the subscription of {client} to {filter} with SUBACK code {code:#04x} ({}){}",
        suback(*code), suback_remedy(*code)
    )]
    SubscriptionRefused {
        /// Which client.
        client: String,
        /// Which filter.
        filter: String,
        /// The return or reason code.
        code: u8,
    },
    /// The peer ended a connection before traffic began.
    #[error(
        "{address} ended the connection of {client} before the run began: {reason}; see the broker's log{}",
        if *answered { "" } else { ", and whether the listener speaks what --transport says (tcp, unless it is given)" }
    )]
    Closed {
        /// Who.
        address: SocketAddr,
        /// Which client.
        client: String,
        /// How.
        reason: String,
        /// Whether it had answered CONNECT by then.
        answered: bool,
    },
    /// TLS or WebSocket could not be opened, or broke.
    #[error("{address}, connection of {client}: {what}")]
    Layer {
        /// Who.
        address: SocketAddr,
        /// Which client.
        client: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The peer answered CONNECT with what is no MQTT.
    #[error("{address} answered CONNECT with {what}: is it an MQTT listener?{}", foreign(begins))]
    Foreign {
        /// Who.
        address: SocketAddr,
        /// What is wrong with it.
        what: String,
        /// How the answer begins.
        begins: Vec<u8>,
    },
    /// The peer sent what a client can't accept.
    #[error("{client} received {what}")]
    Protocol {
        /// Which client.
        client: String,
        /// What it was.
        what: String,
    },
    /// Nothing more came although something was due.
    #[error("nothing arrived for {waited:.1?} while {missing} {what} were due: lost, or the broker hangs")]
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
    /// A joined worker failed, or went away.
    #[error("worker {name}: {what}")]
    Worker {
        /// Its name or address.
        name: String,
        /// What it said.
        what: String,
    },
}

fn ring_remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE) => {
            "a thread can't hold more connections than the limit on open files: raise ulimit -n, or use more threads"
        }
        Some(libc::ENOMEM) => "out of memory that may be locked: raise ulimit -l, or use fewer threads",
        _ => "the generator needs Linux 6.1 or newer, kernel.io_uring_disabled = 0 and no seccomp filter",
    }
}

/// Who it may be that speaks like this.
fn foreign(begins: &[u8]) -> &'static str {
    match begins {
        [0x15, 0x03, ..] => " This is a TLS alert: give --transport tls, or name the port without TLS, usually 1883",
        [b'H', b'T', b'T', b'P', ..] => {
            " This is HTTP: give --transport ws, or name the port without WebSocket, usually 1883"
        }
        [b'S', b'S', b'H', b'-', ..] => " This is SSH",
        _ => " Usually it is port 1883; TLS and WebSocket have ports of their own, and --transport",
    }
}

/// What an operator can do about a failed `connect`.
fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => " (raise the limit on open files: ulimit -n)",
        Some(libc::EADDRNOTAVAIL) => {
            " (out of local ports, or not an address of this host: widen net.ipv4.ip_local_port_range or give more \
             source addresses)"
        }
        Some(libc::ECONNREFUSED) => " (is the broker running and listening there?)",
        Some(libc::ECONNRESET) => {
            " (the broker's listen backlog or connection limit may be full, or its listener speaks something else than \
             --transport says)"
        }
        Some(libc::ETIMEDOUT) => " (nobody answers there: is the address right, does a firewall drop it?)",
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => " (there is no route to it)",
        _ => "",
    }
}

fn connack(code: u8) -> &'static str {
    match code {
        1 => "unacceptable protocol version",
        2 => "identifier rejected",
        3 => "server unavailable",
        4 => "bad user name or password",
        5 => "not authorized",
        _ => ringmq::codec::ReasonCode::from_u8(code).map_or("unknown code", |reason| reason.name()),
    }
}

fn connack_remedy(code: u8) -> &'static str {
    match code {
        4 | 5 | 0x86 | 0x87 => ": does it allow anonymous clients, are user and password right?",
        1 | 0x84 => ": try another protocol version (--protocol)",
        2 | 0x85 => ": try other client identifiers (--client-id)",
        3 | 0x88 | 0x89 | 0x97 | 0x9F => {
            ": the broker is at a limit, which its log may name: raise it, or connect slower (--connect-rate)"
        }
        _ => "",
    }
}

fn suback(code: u8) -> &'static str {
    match code {
        0x80 => "failure",
        _ => ringmq::codec::ReasonCode::from_u8(code).map_or("unknown code", |reason| reason.name()),
    }
}

fn suback_remedy(code: u8) -> &'static str {
    match code {
        0x80 | 0x87 => ": may these clients read this topic?",
        0x97 => ": the broker allows no more subscriptions",
        0x9E => ": the broker has no shared subscriptions",
        0xA2 => ": the broker has no subscriptions with wildcards",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_the_code_means_and_what_to_do() {
        let address = "127.0.0.1:1883".parse().unwrap();
        let refused = |code| Error::Refused { address, client: "client c".to_owned(), code }.to_string();
        for (code, words) in [(3, "server unavailable): the broker is at a limit"), (0x9F, "--connect-rate")] {
            assert!(refused(code).contains(words), "{}", refused(code));
        }
        assert!(refused(2).contains("identifier rejected): try other client identifiers"));
        let filter = "$share/g/t".to_owned();
        let told = Error::SubscriptionRefused { client: "client c".to_owned(), filter, code: 0x9E }.to_string();
        assert!(
            told.ends_with("0x9e (Shared Subscriptions not supported): the broker has no shared subscriptions"),
            "{told}"
        );
    }
}
