//! Exit codes, and the one line that explains them.
//!
//! The codes are those of `sysexits.h`, which systemd prints by name in `systemctl status`.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use crate::logging;

/// The command was used wrongly.
pub const USAGE: u8 = 64;
/// Something that is needed is not there: no balancer, no worker, no usable network.
pub const UNAVAILABLE: u8 = 69;
/// A defect of the program.
pub const SOFTWARE: u8 = 70;
/// An output file, or a listening socket, could not be created.
pub const CANTCREAT: u8 = 73;
/// It may work later: try again.
pub const TEMPFAIL: u8 = 75;
/// Not permitted.
pub const NOPERM: u8 = 77;
/// The configuration is wrong. Units list it in `RestartPreventExitStatus=`: trying again is
/// useless until somebody has edited it.
pub const CONFIG: u8 = 78;

/// Writes `PROGRAM: error: what: why: why that` in one line, and returns the exit code. The line goes to the journal
/// under systemd, to standard error otherwise.
pub fn fail(program: &str, code: u8, error: &dyn Error) -> ExitCode {
    let line = format!("{program}: error: {}", describe(error));
    if !logging::last_words(program, code, &line) {
        // Without standard error there is nobody left to tell; the code still says it.
        drop(writeln!(io::stderr(), "{line}"));
    }
    ExitCode::from(code)
}

/// An error and its causes in one line. A cause that its parent has quoted already is left out.
pub fn describe(error: &dyn Error) -> String {
    let mut text = one_line(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = one_line(error);
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

fn one_line(error: &dyn Error) -> String {
    let text = error.to_string();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot {what}")]
    struct Failed {
        what: &'static str,
        source: io::Error,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer, because: {0}")]
    struct Quoting(#[source] io::Error);

    #[test]
    fn causes_follow_in_one_line() {
        let source = io::Error::other("disk\n  on fire\n");
        assert_eq!(describe(&Failed { what: "write", source }), "cannot write: disk on fire");
    }

    #[test]
    fn nothing_is_said_twice() {
        let quoting = Quoting(io::Error::other("no room"));
        assert_eq!(describe(&quoting), "outer, because: no room");
    }

    #[test]
    fn the_code_is_passed_on() {
        let code = fail("test", CONFIG, &io::Error::other("an example, not a failure"));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(78)));
    }
}
