//! A listening socket in the file system: whose file it is, and what becomes of it.
//!
//! The file of a process that has died is replaced; that of a living one, and whatever is no socket,
//! stays. At the end the file goes, unless another process has put its own there by then.

use super::BACKLOG;
use crate::config::UnixAddress;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tracing::warn;

/// The file of a socket; it is removed with this.
#[derive(Debug)]
pub(in crate::proxy) struct SocketFile {
    path: PathBuf,
    /// Device and number: what tells this file from one that came to be there later.
    identity: (u64, u64),
}

/// Listens at a path, with the permissions that it asks for from the first moment on.
///
/// # Errors
/// Those of the system; told in words: a living listener, and what is no socket.
pub(super) async fn open(at: &UnixAddress) -> io::Result<(UnixListener, SocketFile)> {
    make_room(&at.path).await?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(&at.path).map_err(|error| explained(error, &at.path))?;
    let metadata = fs::symlink_metadata(&at.path)?;
    let file = SocketFile { path: at.path.clone(), identity: (metadata.dev(), metadata.ino()) };
    // Nobody can connect before it listens.
    if let Some(mode) = at.mode {
        fs::set_permissions(&at.path, Permissions::from_mode(mode))?;
    }
    Ok((socket.listen(BACKLOG)?, file))
}

/// Removes the file of a listener that is no more.
async fn make_room(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(explained(error, path)),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| explained(error, path))
        }
        // One whose queue is full is alive, too, and one that may not be opened may be.
        Ok(_) | Err(_) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            "another process listens there, or the socket may not be opened to see whether one does",
        )),
    }
}

/// An error of the system, with what it is about.
fn explained(error: io::Error, path: &Path) -> io::Error {
    let folder = path.parent().unwrap_or(Path::new("/")).display();
    let told = match error.kind() {
        ErrorKind::NotFound => format!("there is no folder {folder}"),
        ErrorKind::PermissionDenied => format!("no permission to make a file in {folder}"),
        ErrorKind::NotADirectory => format!("{folder} is no folder"),
        _ => return error,
    };
    io::Error::new(error.kind(), told)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let own = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if own && let Err(error) = fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "the file of the socket stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> UnixAddress {
        let path = std::env::temp_dir().join(format!("proxima-{}-{name}.sock", std::process::id()));
        UnixAddress { path, mode: Some(0o640) }
    }

    #[tokio::test]
    async fn a_dead_listener_s_file_is_replaced_and_goes_at_the_end() {
        let at = path("dead");
        // Closed, but not removed: as a killed process leaves it.
        drop(std::os::unix::net::UnixListener::bind(&at.path).unwrap());
        let (listener, file) = open(&at).await.unwrap();
        assert_eq!(fs::metadata(&at.path).unwrap().mode() & 0o777, 0o640);
        UnixStream::connect(&at.path).await.unwrap();
        drop((listener, file));
        assert!(!at.path.exists());
    }

    #[tokio::test]
    async fn a_living_listener_and_another_file_stay() {
        let at = path("living");
        let (_listener, file) = open(&at).await.unwrap();
        let error = open(&at).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
        UnixStream::connect(&at.path).await.unwrap();
        drop(file);
        fs::write(&at.path, "text").unwrap();
        let error = open(&at).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        assert_eq!(fs::read_to_string(&at.path).unwrap(), "text");
        fs::remove_file(&at.path).unwrap();
    }

    #[tokio::test]
    async fn the_file_of_a_later_process_is_not_taken_away() {
        let at = path("later");
        let (listener, file) = open(&at).await.unwrap();
        fs::remove_file(&at.path).unwrap();
        let (_later, later) = open(&at).await.unwrap();
        drop((listener, file));
        UnixStream::connect(&at.path).await.unwrap();
        drop(later);
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_named() {
        let path = PathBuf::from("/nowhere-at-all/edge.sock");
        let error = open(&UnixAddress { path, mode: None }).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no folder /nowhere-at-all");
    }
}
