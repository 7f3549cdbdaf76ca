//! Child processes and the CPUs that they run on.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Ended when dropped. Each is one process without children.
pub struct Process(Child);

impl Process {
    /// Starts a program on these CPUs; what it says goes to `log`.
    pub fn start(program: &str, arguments: &[&str], cpus: Option<&str>, log: &Path) -> Result<Self, String> {
        // taskset becomes the program: the process id stays.
        let (first, before): (&str, &[&str]) = match cpus {
            Some(cpus) => ("taskset", &["-c", cpus, program]),
            None => (program, &[]),
        };
        let log = File::create(log).unwrap();
        Command::new(first)
            .args(before)
            .args(arguments)
            .env("TOKIO_WORKER_THREADS", "1")
            .env_remove("PROXIMA_REGION")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .map(Self)
            .map_err(|error| format!("{first}: {error}"))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<String> {
        self.0.try_wait().unwrap().map(|status| status.to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Which CPUs serve whom, as `taskset` lists them; `None`: wherever the kernel puts them.
#[derive(Debug, Clone)]
pub struct Cpus {
    pub peer: Option<String>,
    pub rest: Option<String>,
}

/// The measured proxy alone on one CPU, everything else on the others, this process among them.
pub fn divide_cpus() -> Cpus {
    let none = Cpus { peer: None, rest: None };
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let Some(allowed) = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")) else {
        return none;
    };
    let mut all: Vec<u32> = allowed.trim().split(',').flat_map(range).collect();
    if all.len() < 2 {
        eprintln!("bench: one CPU only: nothing is pinned, and throughput is that of all processes together");
        return none;
    }
    let peer = all.remove(0).to_string();
    let rest = all.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let own = std::process::id().to_string();
    let moved = Command::new("taskset").args(["-a", "-c", "-p", &rest, &own]).stdout(Stdio::null()).status();
    if moved.is_ok_and(|status| status.success()) {
        return Cpus { peer: Some(peer), rest: Some(rest) };
    }
    eprintln!("bench: no taskset (util-linux): nothing is pinned");
    none
}

fn range(text: &str) -> std::ops::RangeInclusive<u32> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    from.parse().unwrap()..=to.parse().unwrap()
}

/// Where a program is; sbin is not on every user's PATH.
pub fn find(program: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin");
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.extend([tools, "/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.into_iter().map(|folder| folder.join(program)).find(|file| file.is_file());
    found.map(|file| file.display().to_string())
}

/// The first line that a program says about its version.
pub fn version(program: &str, option: &str) -> String {
    let Ok(output) = Command::new(program).arg(option).output() else { return "unknown".to_owned() };
    // nginx says it on stderr.
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").trim().to_owned()
}
