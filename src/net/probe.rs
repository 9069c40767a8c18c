//! What the running kernel's `io_uring` can do, found by asking it rather than by its version.

use std::fmt;
use std::io;

use io_uring::{IoUring, Probe, opcode};
use thiserror::Error;

use super::ring::setup_lock;

/// The optional features of the ring that are in use. The driver can do without each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `IORING_SETUP_NO_SQARRAY` (Linux 6.6).
    pub no_sqarray: bool,
    /// `IORING_REGISTER_RING_FDS` (Linux 5.18).
    pub registered_ring: bool,
    /// `IORING_ENTER_NO_IOWAIT` (Linux 6.15): an idle shard does not show as waiting for a disk.
    pub no_iowait: bool,
    /// `SOCKET_URING_OP_GETSOCKOPT` (Linux 6.7): peers' addresses are known without a descriptor of the process.
    pub peer_names: bool,
    /// `IORING_FEAT_RECVSEND_BUNDLE` (Linux 6.10); found, not used.
    pub bundles: bool,
}

/// Why this host cannot run the driver.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The system call does not exist.
    #[error(
        "this kernel has no io_uring: Linux 6.1 or newer with CONFIG_IO_URING is needed (in a container, the \
         runtime's seccomp profile may hide it: allow io_uring_setup, io_uring_enter and io_uring_register)"
    )]
    Missing,
    /// Switched off, or forbidden to this process.
    #[error(
        "io_uring is forbidden to this process: kernel.io_uring_disabled is {disabled} (0 allows everyone: \
         `sysctl kernel.io_uring_disabled=0`); if it is 0, allow io_uring_setup, io_uring_enter and \
         io_uring_register in the seccomp profile of the container or service"
    )]
    Forbidden {
        /// The value of the switch, or "unknown".
        disabled: String,
    },
    /// Not enough memory, most often because of RLIMIT_MEMLOCK.
    #[error(
        "the kernel has no memory for an io_uring: raise RLIMIT_MEMLOCK (`ulimit -l`, LimitMEMLOCK=), or free memory"
    )]
    Memory,
    /// An older kernel.
    #[error("this kernel's io_uring lacks {0}: Linux 6.1 or newer is needed")]
    TooOld(&'static str),
    /// Anything else.
    #[error("setting up an io_uring failed: {0}")]
    Other(#[source] io::Error),
}

/// Sets up a small ring as the driver's and asks what it can do.
///
/// # Errors
/// When the host lacks what the driver cannot do without.
pub fn probe() -> Result<Features, ProbeError> {
    let _lock = setup_lock();
    let (mut ring, no_sqarray) = match build(true) {
        Ok(ring) => (ring, true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (build(false).map_err(explain)?, false),
        Err(error) => return Err(explain(error)),
    };
    if !ring.params().is_feature_nodrop() {
        return Err(ProbeError::TooOld("IORING_FEAT_NODROP"));
    }
    if !ring.params().is_feature_ext_arg() {
        return Err(ProbeError::TooOld("IORING_FEAT_EXT_ARG"));
    }
    require_operations(&ring)?;
    let peer_names = super::ring_ask::is_answered(&mut ring);
    let mut submitter = ring.submitter();
    Ok(Features {
        peer_names,
        no_sqarray,
        registered_ring: submitter.register_ring_fd().is_ok(),
        no_iowait: ring.params().is_feature_no_iowait(),
        bundles: ring.params().is_feature_recvsend_bundle(),
    })
}

fn build(no_sqarray: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_clamp().setup_cqsize(16);
    if no_sqarray {
        builder.setup_no_sqarray();
    }
    builder.build(8)
}

fn require_operations(ring: &IoUring) -> Result<(), ProbeError> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(ProbeError::Other)?;
    let needed = [
        (opcode::AcceptMulti::CODE, "IORING_OP_ACCEPT"),
        (opcode::RecvMulti::CODE, "IORING_OP_RECV"),
        (opcode::Send::CODE, "IORING_OP_SEND"),
        (opcode::SendMsg::CODE, "IORING_OP_SENDMSG"),
        (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL"),
        (opcode::Shutdown::CODE, "IORING_OP_SHUTDOWN"),
        (opcode::Close::CODE, "IORING_OP_CLOSE"),
        (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
        (opcode::MsgRingSendFd::CODE, "IORING_OP_MSG_RING"),
        // Came with 6.0 as did multishot receive, which cannot be asked for itself.
        (opcode::SendZc::CODE, "multishot receive"),
    ];
    match needed.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(ProbeError::TooOld(name)),
        None => Ok(()),
    }
}

fn explain(error: io::Error) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => ProbeError::Missing,
        Some(libc::EPERM | libc::EACCES) => {
            let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            ProbeError::Forbidden { disabled: disabled.map_or_else(|_| "unknown".into(), |text| text.trim().into()) }
        }
        Some(libc::ENOMEM) => ProbeError::Memory,
        Some(libc::EINVAL) => ProbeError::TooOld("IORING_SETUP_DEFER_TASKRUN"),
        _ => ProbeError::Other(error),
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "single issuer, deferred task work, direct descriptors, multishot accept and receive, provided buffers",
        )?;
        let optional = [
            (self.no_sqarray, "no submission array"),
            (self.registered_ring, "registered ring descriptor"),
            (self.no_iowait, "idle is not iowait"),
            (self.peer_names, "peers' addresses"),
        ];
        optional.iter().filter(|(is_there, _)| *is_there).try_for_each(|(_, name)| write!(f, ", {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_setup_call_say_what_to_do() {
        let explained = |errno| explain(io::Error::from_raw_os_error(errno)).to_string();
        assert!(explained(libc::ENOSYS).contains("Linux 6.1"));
        assert!(explained(libc::EPERM).contains("io_uring_disabled"));
        assert!(explained(libc::ENOMEM).contains("ulimit -l"));
        assert!(explained(libc::EINVAL).contains("DEFER_TASKRUN"));
        assert!(explained(libc::EIO).contains("failed"));
    }

    #[test]
    fn this_host_has_what_the_driver_needs() {
        let features = probe().expect("tests of this module need io_uring");
        assert!(features.to_string().contains("direct descriptors"));
    }
}
