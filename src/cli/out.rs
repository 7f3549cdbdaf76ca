//! What commands print. Whoever closes the other end (`| head`, `| grep -q`) has read enough: the command does the
//! rest of its work all the same.

use std::fmt;
use std::io::{self, ErrorKind, Write};

/// Prints to standard output.
pub(super) fn print(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => eprintln!("proxima: standard output: {error}"),
        _ => {}
    }
}

/// Like `print!`, but for a closed end.
macro_rules! out {
    ($($text:tt)*) => { $crate::cli::out::print(format_args!($($text)*)) };
}

/// Like `println!`, but for a closed end.
macro_rules! outln {
    ($($text:tt)*) => { $crate::cli::out::print(format_args!("{}\n", format_args!($($text)*))) };
}
