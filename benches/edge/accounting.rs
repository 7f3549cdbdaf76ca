//! What a process has used, from the kernel's books.
//!
//! CPU by `/proc/PID/task/*/schedstat`: nanoseconds on a CPU, user and kernel, of all threads,
//! and nanoseconds that they waited for one. Work that the kernel does for a process in its own
//! context, loopback traffic among it, is included; its memory for sockets is not.
//! Source: Documentation/scheduler/sched-stats.rst, Documentation/filesystems/proc.rst.

use std::fs;
use std::ops::Sub;

/// CPU time used so far; the difference of two is what was used between them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    pub used_ns: u64,
    /// Ready to run, while something else ran: contention.
    pub waited_ns: u64,
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            // A thread that has ended takes its time with it.
            used_ns: self.used_ns.saturating_sub(before.used_ns),
            waited_ns: self.waited_ns.saturating_sub(before.waited_ns),
        }
    }
}

pub fn cpu(pid: u32) -> Cpu {
    let mut sum = Cpu::default();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
        let mut numbers = text.split_whitespace().map(|number| number.parse::<u64>().unwrap());
        sum.used_ns += numbers.next().unwrap();
        sum.waited_ns += numbers.next().unwrap();
    }
    sum
}

/// Memory of a process, its fair part of what is shared; bytes.
pub fn pss(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
