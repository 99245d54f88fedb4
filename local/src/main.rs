//! The `ebb` command.

use std::process::ExitCode;

use clap::Parser as _;
use ebb_daemon::process;
use ebb_local::cli::{self, Cli, Command};
use ebb_local::platform;
use ebb_runner::{guardian, mounts};

/// The reason not to take the system's allocator: see the workspace's Cargo.toml.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        // Before any runtime: the guardian waits for a pipe to close and needs none.
        Command::Guardian => guardian::main(),
        // Before any thread as well: a process with several enters no namespace of users.
        Command::Mounted { plan, words } => mounts::main(&plan, &words),
        Command::Fetch(options) => ebb_fetch::main(&cli::with_cache(options)),
        Command::Local(options) => process::end("ebb", platform::run(&options)),
    }
}
