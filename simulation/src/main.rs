//! Ebb, simulated: the whole platform in one process, in paused time, from a seed.
//!
//! The parts are the real ones, put together as on a cluster. Simulated are the network between
//! them, the way to the API server, the machines that pods run on, the clients, and what goes wrong.
//! Each seed lives in a process of its own, so that no counter of an earlier one is left anywhere:
//! the same seed is the same run, to the last byte.

mod api_link;
mod chance;
mod child;
mod clients;
mod content;
mod crash;
mod fleet;
mod gate;
mod identity;
mod invariants;
mod judge;
mod network;
mod parts;
mod plan;
mod pods;
mod script;
mod seeds;
mod shrink;
mod single;
mod story;
mod world;

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A tenth quicker than that of the C library: most of what a seed does is to read and write JSON.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Looks for faults in Ebb: worlds full of trouble, each from a seed
#[derive(Parser)]
#[command(
    after_help = "Examples:\n  ebb-simulation run --seeds 0..200\n  ebb-simulation replay 176\n  ebb-simulation shrink 176"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Live through many seeds, each in a process of its own; shrink and tell those that fail
    Run {
        /// The seeds: from the first to the one before the last
        #[arg(long, value_name = "FROM..TO", value_parser = range, default_value = "0..200")]
        seeds: Range<u64>,

        /// Seeds at the same time; as many as there are processors if not said
        #[arg(long, value_name = "N")]
        jobs: Option<usize>,

        /// File that keeps how far a run came: the next one of the same program goes on there
        #[arg(long, value_name = "FILE")]
        resume: Option<PathBuf>,

        /// End at the first seed that fails
        #[arg(long)]
        first: bool,
    },
    /// Live through one seed and tell its story
    Replay(single::Options),
    /// End a process before and after each of its writes, and look what is left
    Crash(crash::CrashOptions),
    #[command(hide = true)]
    CrashOne(crash::OneOptions),
    /// Leave out of a failing seed what it does not need, and tell its story
    Shrink {
        /// The seed
        seed: u64,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { seeds, jobs, resume, first } => seeds::run(&seeds::Options {
            seeds,
            jobs: jobs.unwrap_or_else(processors),
            resume,
            is_over_at_first: first,
        }),
        Command::Crash(options) => crash::run(&options),
        Command::CrashOne(options) => crash::one(&options),
        Command::Replay(options) => single::run(&options),
        Command::Shrink { seed } => shrink::run(seed),
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let numbers =
        text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    let range = numbers.ok_or_else(|| format!("{text:?} is not a range such as 0..200"))?;
    if range.is_empty() { Err(format!("{text} holds no seed")) } else { Ok(range) }
}
