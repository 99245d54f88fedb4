//! The `ebb` command.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use ebb_local::cli::{Cli, Command};
use ebb_local::{guardian, platform};

/// Gives freed memory back sooner than the system's allocator: an idle Ebb stays small.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        // Before any runtime: the guardian is one thread that waits for a pipe to close.
        Command::Guardian => guardian::main(),
        Command::Local(options) => match platform::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // A closed standard error is no reason for another exit status.
                drop(writeln!(std::io::stderr(), "ebb: {error:#}"));
                ExitCode::FAILURE
            }
        },
    }
}
