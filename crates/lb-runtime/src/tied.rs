//! A daemon that must not outlive the process that started it.
//!
//! Its standard input is a pipe that nobody writes to. When the pipe closes, the parent is gone, however it went.

use std::{env, io::Read as _, thread};

/// Set for such a daemon.
pub const TIED_VARIABLE: &str = "LB_TIED_TO_PARENT";

/// Ends this process with its parent, if that is wanted of it.
pub fn end_with_parent() {
    if env::var_os(TIED_VARIABLE).is_some() {
        thread::spawn(wait);
    }
}

fn wait() {
    let mut ignored = [0; 64];
    while std::io::stdin().read(&mut ignored).is_ok_and(|count| count > 0) {}
    std::process::exit(0);
}
