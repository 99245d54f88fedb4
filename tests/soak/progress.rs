//! A line that says how far a soak is.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::ledger::Ledger;
use crate::table::grouped;
use crate::work::Work;

/// Width of the bar, in characters.
const BAR: u64 = 20;
/// How often the line is written on a terminal, where it takes the place of the last one.
const EVERY: Duration = Duration::from_secs(1);
/// How often it is written elsewhere.
const EVERY_IN_LOG: Duration = Duration::from_secs(15);

/// Shows how far the work is, as long as it is polled.
pub(crate) async fn show(ledger: Arc<Ledger>, work: Arc<Work>) {
    let is_terminal = std::io::stderr().is_terminal();
    let (began, before) = (Instant::now(), ledger.record().under_fault);
    loop {
        sleep(if is_terminal { EVERY } else { EVERY_IN_LOG }).await;
        write(&line(&ledger, &work, Some((before, began.elapsed()))), is_terminal);
    }
}

/// Shows it for the last time.
pub(crate) fn last(ledger: &Ledger, work: &Work) {
    let is_terminal = std::io::stderr().is_terminal();
    write(&line(ledger, work, None), is_terminal);
    if is_terminal {
        drop(writeln!(std::io::stderr()));
    }
}

fn write(line: &str, is_terminal: bool) {
    // A terminal's line is written over; what was longer before is cleared.
    let (begin, end) = if is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
    let mut out = std::io::stderr();
    drop(write!(out, "{begin}{line}{end}").and_then(|()| out.flush()));
}

/// The line; with the requests under the fault before this run and how long it lasts, the rate and what is left.
fn line(ledger: &Ledger, work: &Work, since: Option<(u64, Duration)>) -> String {
    let record = ledger.record();
    let (done, wanted) = (record.under_fault, work.wanted());
    let full = (done * BAR / wanted.max(1)).min(BAR);
    let bar: String = (0..BAR).map(|at| if at < full { '#' } else { '.' }).collect();
    let pace = since.map(|(before, time)| pace(done - before, wanted.saturating_sub(done), time));
    format!(
        "{} [{bar}] {} of {} under the fault{}, {} strikes, {} failed",
        record.fault,
        grouped(done),
        grouped(wanted),
        pace.unwrap_or_default(),
        record.strikes,
        grouped(record.failed()),
    )
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate for people"
)]
fn pace(done: u64, left: u64, time: Duration) -> String {
    let rate = done as f64 / time.as_secs_f64().max(0.001);
    let seconds = (left as f64 / rate.max(0.001)) as u64;
    format!(", {rate:.0}/s, {} min {:02} s left", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_estimated() {
        let text = pace(1000, 90_000, Duration::from_secs(1));
        assert_eq!(text, ", 1000/s, 1 min 30 s left");
    }
}
