//! The benchmarks of `make bench`: figures side by side with what they are measured against.
//!
//! Every figure is a median of pairs taken in turn in this one run: machines are noisy, and a
//! neighbour's load then falls on both sides.

mod cluster;
mod cold_start;
mod figures;
mod memory;
mod pass_through;
mod proxy;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::figures::Figure;

/// Measures Ebb and prints a table.
#[derive(Parser, Debug)]
struct Options {
    /// Also write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Pairs for each figure; odd, so that the median was really seen.
    #[arg(long, default_value_t = 11)]
    pairs: usize,
    #[command(subcommand)]
    part: Option<Part>,
}

/// Another thing to do than to measure `ebb local`.
#[derive(Subcommand, Debug)]
enum Part {
    /// Measures the Ebb on a cluster instead: run by make bench-cluster.
    Cluster,
    /// The bare pass-through that the proxy is compared with, a process that the benchmark starts.
    #[command(hide = true)]
    PassThrough {
        /// Where it sends every request.
        to: SocketAddr,
    },
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    let figures = match options.part {
        Some(Part::PassThrough { to }) => return runtime.block_on(pass_through::run(to)),
        Some(Part::Cluster) => runtime.block_on(cluster::measure(options.pairs))?,
        None => runtime.block_on(measure(options.pairs))?,
    };
    say(&figures::table(&figures));
    if let Some(path) = options.out {
        std::fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

async fn measure(pairs: usize) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    note("memory of an idle ebb local");
    figures.extend(memory::measure().await?);
    note("proxy CPU per request");
    figures.extend(proxy::measure(pairs).await?);
    note("time to the first byte from zero");
    figures.extend(cold_start::measure(pairs).await?);
    Ok(figures)
}

/// Progress goes to standard error: the table is the result.
fn note(text: &str) {
    use std::io::Write as _;
    drop(writeln!(std::io::stderr(), "measuring {text} ..."));
}

fn say(text: &str) {
    use std::io::Write as _;
    drop(write!(std::io::stdout(), "{text}"));
}
