//! The `ebb` command.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use ebb_local::cli::{Cli, Command};
use ebb_local::platform;
use ebb_runner::guardian;

/// Why not the system's: see the workspace's Cargo.toml.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        // Before any runtime: the guardian waits for a pipe to close and needs none.
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
