//! `ebb-fetch`: fetches the files of one model into a cache, and ends.

use std::process::ExitCode;

use clap::Parser as _;
use ebb_fetch::options::FetchOptions;

/// Fetches the files of a model into a cache: from Hugging Face, a web server or S3
#[derive(clap::Parser)]
#[command(name = "ebb-fetch", version)]
struct Arguments {
    #[command(flatten)]
    options: FetchOptions,
}

fn main() -> ExitCode {
    ebb_fetch::main(&Arguments::parse().options)
}
