//! Target T1: requests without number under one fault after the other, on the real components, and
//! the outcome of every one counted. Run by tests/cluster/soak, inside the cluster's network.
//!
//! A request has succeeded when it was answered 200 by the service that it asked, with its own query
//! and body. All else is a failure: another status, another answer, a connection that broke, a
//! timeout.

mod caller;
mod fault;
mod ledger;
mod outcome;
mod progress;
mod racers;
mod site;
mod steady;
mod strikes;
mod table;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, ValueEnum as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use fault::Fault;
use ledger::{Ledger, Record};
use site::Site;
use work::Work;

/// The exit status of a soak that was stopped, as a shell reports one that SIGINT ended.
const STOPPED: u8 = 130;

/// Sends requests while faults are injected, and counts every outcome.
#[derive(Parser, Debug)]
struct Options {
    /// Folder of the results: one file for each fault. A soak goes on where these say it was.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Requests while each fault is on, at the least: a fault is injected some times in any case. In
    /// races to zero a hundredth of it.
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// What follows from chance follows from this: when a fault strikes, how, and what is asked.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Inject this fault; may be repeated. All of them unless given.
    #[arg(long, value_enum)]
    fault: Vec<Fault>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    std::fs::create_dir_all(&options.out)?;
    let faults =
        if options.fault.is_empty() { Fault::value_variants() } else { options.fault.as_slice() };
    let stop = CancellationToken::new();
    tokio::spawn(stop_when_told(stop.clone()));
    let (mut records, mut ended) = (Vec::new(), Ok(()));
    for fault in faults {
        match soak(&options, *fault, &stop).await {
            Ok(record) => records.push(record),
            Err(error) => ended = Err(error),
        }
        if ended.is_err() || stop.is_cancelled() {
            break;
        }
    }
    say(&table::markdown(&records));
    ended?;
    if stop.is_cancelled() {
        note("stopped; the same command goes on from here");
        return Ok(ExitCode::from(STOPPED));
    }
    let failed = records.iter().any(Record::is_failed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Sends the requests that are still to be sent under one fault. Returns what is known by then.
async fn soak(options: &Options, fault: Fault, stop: &CancellationToken) -> anyhow::Result<Record> {
    let path = options.out.join(format!("{}.json", fault.name()));
    let mut ledger = Ledger::open(path, fault, options.seed)?;
    let wanted = fault.wanted(options.requests);
    let work = Work::new(&ledger, wanted, fault.strikes_min(), stop.clone());
    if work.is_done() {
        note(&format!("{} was done before", fault.name()));
        return Ok(ledger.record());
    }
    note(&format!("{}: {}", fault.name(), fault.title()));
    let site = Site::open(fault).await?;
    ledger.begin();
    let (ledger, work) = (Arc::new(ledger), Arc::new(work));
    let saving = tokio::spawn(Arc::clone(&ledger).keep());
    let showing = tokio::spawn(progress::show(Arc::clone(&ledger), Arc::clone(&work)));
    let (asked, struck) = if fault == Fault::F24 {
        (racers::race(&site, &ledger, &work, options.seed).await, Ok(()))
    } else {
        futures::join!(
            steady::ask(&site, &ledger, &work, options.seed),
            strikes::inject(&site, &ledger, &work, options.seed)
        )
    };
    // Until they have ended: the file is written by one at a time.
    for task in [saving, showing] {
        task.abort();
        drop(task.await);
    }
    ledger.save()?;
    progress::last(&ledger, &work);
    asked?;
    struck?;
    Ok(ledger.record())
}

/// Ends the work at the first SIGINT or SIGTERM.
async fn stop_when_told(stop: CancellationToken) {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else { return };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    note("ending: waiting for the requests in flight, and for the fault to be over");
    stop.cancel();
}

/// One line for people; the table is the result.
fn note(text: &str) {
    use std::io::Write as _;
    drop(writeln!(std::io::stderr(), "{text}"));
}

fn say(text: &str) {
    use std::io::Write as _;
    drop(write!(std::io::stdout(), "{text}"));
}
