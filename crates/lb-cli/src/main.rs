//! The `lbctl` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_cli::main()
}
