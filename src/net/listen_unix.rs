//! Listening on a Unix domain socket: one socket file, which all shards accept from.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// Who may connect: the file's owner and group by number, and its mode. `None` leaves it as the system makes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// User identifier.
    pub owner: Option<u32>,
    /// Group identifier.
    pub group: Option<u32>,
    /// Permission bits.
    pub mode: Option<u32>,
}

/// A socket file of ours; removed when this is dropped, unless somebody else has put another in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the socket file, with its permissions before anybody can see it, and one descriptor of it for each shard. A file
/// that an earlier process has left is replaced.
///
/// # Errors
/// `EADDRINUSE` when somebody listens there, `EEXIST` when the path is something else than a socket; and those of
/// `bind(2)`, `chown(2)`, `chmod(2)` and `listen(2)`.
pub fn bind(
    path: &Path,
    shards: usize,
    backlog: i32,
    permissions: Permissions,
) -> io::Result<(Vec<OwnedFd>, SocketFile)> {
    refuse_what_is_in_use(path)?;
    let made = aside(path);
    let _ = fs::remove_file(&made);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(&made)?)?;
    let placed = set_permissions(&made, permissions)
        .and_then(|()| socket.listen(backlog))
        .and_then(|()| inode(&made))
        .and_then(|inode| fs::rename(&made, path).map(|()| inode));
    let inode = placed.inspect_err(|_| drop(fs::remove_file(&made)))?;
    let file = SocketFile { path: path.to_owned(), inode };
    let sockets = (0..shards).map(|_| socket.try_clone().map(OwnedFd::from)).collect::<io::Result<_>>()?;
    Ok((sockets, file))
}

/// In the same directory, so that it can be renamed.
fn aside(path: &Path) -> PathBuf {
    path.with_extension(format!("{}", std::process::id()))
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn refuse_what_is_in_use(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

fn set_permissions(path: &Path, permissions: Permissions) -> io::Result<()> {
    let Permissions { owner, group, mode } = permissions;
    if owner.is_some() || group.is_some() {
        chown(path, owner, group)?;
    }
    match mode {
        Some(mode) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("ringmq-{name}-{}.sock", std::process::id()))
    }

    #[test]
    fn the_file_has_its_mode_and_goes_with_its_owner() {
        let path = path("mode");
        let permissions = Permissions { mode: Some(0o620), ..Permissions::default() };
        let (sockets, file) = bind(&path, 3, 16, permissions).unwrap();
        assert_eq!(sockets.len(), 3);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o620);
        UnixStream::connect(&path).unwrap();
        assert_eq!(bind(&path, 1, 16, permissions).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_an_earlier_process_left_is_replaced_and_no_other() {
        let path = path("stale");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_sockets, first) = bind(&path, 1, 16, Permissions::default()).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(first);
        assert_eq!(fs::read(&path).unwrap(), b"mine", "what somebody else put there stays");
        assert_eq!(bind(&path, 1, 16, Permissions::default()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::remove_file(&path).unwrap();
    }
}
