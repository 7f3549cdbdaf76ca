//! Child processes of this binary, and the folder that they write to.
//!
//! No child outlives the demo: each ends when its standard input does, however
//! the demo ended, and is killed when its handle is dropped.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child as Process, Command};

/// Lines of a child's log that are shown when it fails.
const TAIL_LINES: usize = 20;
/// Environment that a child may see of the demo's; the rest could lead to a real AWS account.
const PASSED_ON: [&str; 4] = ["PATH", "HOME", "RUST_LOG", "RUST_BACKTRACE"];

/// Why a child could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot find this program's own file")]
    Own(#[source] std::io::Error),
    #[error("cannot make {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot start {name}")]
    Start {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot end {name}")]
    End {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{name} ended with {status}; the end of its log:\n{tail}")]
    Failed { name: String, status: ExitStatus, tail: String },
}

/// The folder of one run; removed when dropped, unless kept.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    /// # Errors
    /// It cannot be made.
    pub fn new() -> Result<Self, Error> {
        let name = format!("proxima-demo-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        let made = private_folder(&path);
        made.map_err(|source| Error::File { path: path.clone(), source })?;
        Ok(Self { path, keep: false })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder behind: its logs are wanted.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("proxima demo: {} was left behind: {error}", self.path.display());
        }
    }
}

/// It holds private keys: nobody else may look.
fn private_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

/// A running child.
#[derive(Debug)]
pub struct Child {
    name: String,
    log: PathBuf,
    process: Process,
}

/// Starts children that log into one folder.
#[derive(Debug, Clone)]
pub struct Nursery {
    program: PathBuf,
    folder: PathBuf,
}

impl Nursery {
    /// # Errors
    /// The system does not tell where this program's file is.
    pub fn new(folder: &Path) -> Result<Self, Error> {
        let program = std::env::current_exe().map_err(Error::Own)?;
        Ok(Self { program, folder: folder.to_path_buf() })
    }

    /// This program's own file.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Starts this program with `arguments`, logging to `<name>.log` (appended).
    ///
    /// # Errors
    /// The log cannot be opened or the process not be started.
    pub fn start<A: AsRef<OsStr>>(&self, name: &str, arguments: &[A]) -> Result<Child, Error> {
        let log = self.folder.join(format!("{name}.log"));
        let file = |path: &PathBuf| {
            let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
            opened.map_err(|source| Error::File { path: path.clone(), source })
        };
        let (out, err) = (file(&log)?, file(&log)?);
        let process = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .envs(PASSED_ON.iter().filter_map(|key| Some((*key, std::env::var_os(key)?))))
            // The zone server accepts any signature; these name nobody.
            .envs([("AWS_ACCESS_KEY_ID", "demo"), ("AWS_SECRET_ACCESS_KEY", "demo")])
            .envs([("AWS_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true")])
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            // Ctrl-C is for the demo, which ends its children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::Start { name: name.to_owned(), source })?;
        Ok(Child { name: name.to_owned(), log, process })
    }
}

impl Child {
    /// `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// SIGKILL, then waits until it is gone.
    ///
    /// # Errors
    /// The process cannot be signalled.
    pub async fn kill(mut self) -> Result<(), Error> {
        let killed = self.process.kill().await;
        killed.map_err(|source| Error::End { name: self.name.clone(), source })
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// It ends with another status than success; the error shows the end of its log.
    pub async fn finished(mut self) -> Result<(), Error> {
        let ended = self.process.wait().await;
        let status = ended.map_err(|source| Error::End { name: self.name.clone(), source })?;
        if status.success() { Ok(()) } else { Err(self.failed(status)) }
    }

    /// # Errors
    /// It has ended, for whatever reason; the error shows the end of its log.
    pub fn still_runs(&mut self) -> Result<(), Error> {
        let ended = self.process.try_wait();
        match ended.map_err(|source| Error::End { name: self.name.clone(), source })? {
            Some(status) => Err(self.failed(status)),
            None => Ok(()),
        }
    }

    fn failed(&self, status: ExitStatus) -> Error {
        let text = match std::fs::read(&self.log) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("(cannot be read: {error})"),
        };
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.iter().skip(lines.len().saturating_sub(TAIL_LINES));
        let tail = tail.map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n");
        Error::Failed { name: self.name.clone(), status, tail }
    }
}
