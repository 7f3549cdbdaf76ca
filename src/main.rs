//! The binary: arguments in, exit code out.

use std::process::ExitCode;

/// Each reload builds a whole configuration on whichever thread is free, and drops the old one on
/// another: the C library's allocator keeps a heap for each thread and gives little of it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    proxima::cli::main()
}
