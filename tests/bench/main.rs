//! The benchmarks of `make bench`: figures side by side with what they are measured against.
//!
//! Every figure is a median of pairs taken in turn in this one run: machines are noisy, and a
//! neighbour's load then falls on both sides.

mod cluster;
mod cold_start;
mod figures;
mod growth;
mod memory;
mod pass_through;
mod proxy;
mod standby;
mod tick;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

use crate::figures::Figure;

/// Measures Ebb and prints a table.
#[derive(Parser, Debug)]
struct Options {
    /// Also write the figures as JSON to this file, and the plot of the growth beside it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Pairs for each figure; odd, so that the median is one of the measured values.
    #[arg(long, default_value_t = 11)]
    pairs: usize,
    /// Measure this alone.
    #[arg(long)]
    only: Option<Subject>,
    /// Leave out the steps of the growth that go beyond so many services.
    #[arg(long, value_name = "NUMBER", default_value_t = usize::MAX)]
    services_max: usize,
    #[command(subcommand)]
    part: Option<Part>,
}

/// A measurement of `ebb local`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// Memory with nothing to do.
    Memory,
    /// The autoscaler's tick with 10,000 revisions.
    Tick,
    /// CPU of the proxy for a request.
    Proxy,
    /// Time to the first byte from zero.
    ColdStart,
    /// Memory and time to the first byte of a model that sleeps in its process.
    Standby,
    /// CPU and memory of a service among many.
    Growth,
}

/// A task other than measuring `ebb local`.
#[derive(Subcommand, Debug)]
enum Part {
    /// Measures the Ebb on a cluster instead: run by make bench-cluster.
    Cluster,
    /// The autoscaler at the size of a large cluster, a process that the benchmark starts.
    #[command(hide = true)]
    Tick,
    /// The bare pass-through that the proxy is compared with, a process that the benchmark starts.
    #[command(hide = true)]
    PassThrough {
        /// Address to which it sends every request.
        to: SocketAddr,
    },
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    let figures = match options.part {
        Some(Part::PassThrough { to }) => return runtime.block_on(pass_through::run(to)),
        Some(Part::Tick) => {
            say(&tick::run(options.pairs)?);
            return Ok(());
        }
        Some(Part::Cluster) => runtime.block_on(cluster::measure(options.pairs))?,
        None => runtime.block_on(measure(&options))?,
    };
    say(&figures::table(&figures));
    if let Some(path) = options.out {
        std::fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

async fn measure(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let Options { pairs, only, services_max, .. } = *options;
    let wanted = |subject| only.is_none_or(|only| only == subject);
    let mut figures = Vec::new();
    if wanted(Subject::Memory) {
        note("memory of an idle ebb local");
        figures.extend(memory::measure().await?);
    }
    if wanted(Subject::Tick) {
        note("the autoscaler with 10,000 revisions");
        figures.extend(tick::measure().await?);
    }
    if wanted(Subject::Proxy) {
        note("proxy CPU per request");
        figures.extend(proxy::measure(pairs).await?);
    }
    if wanted(Subject::ColdStart) {
        note("time to the first byte from zero");
        figures.extend(cold_start::measure(pairs).await?);
    }
    if wanted(Subject::Standby) {
        note("a model that sleeps in its process");
        figures.extend(standby::measure(pairs).await?);
    }
    if wanted(Subject::Growth) {
        note("CPU and memory of a service among many");
        let plot = options.out.as_deref().map(|out| Path::with_file_name(out, "growth.svg"));
        figures.extend(growth::measure(services_max, plot.as_deref()).await?);
    }
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
