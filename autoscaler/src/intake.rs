//! Where reports come in: a bounded buffer that never makes an activator wait.
//!
//! Reports are level-triggered, so when the autoscaler cannot keep up the oldest one is thrown
//! away: the newest says more about the present.

use std::collections::VecDeque;
use std::sync::Arc;

use ebb_api::report::Report;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;

/// Reports that wait at most: some ten seconds' worth of 20 activators, Knative's most.
pub const REPORTS_MAX: usize = 256;

/// The end that reports are given to; cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake {
    shared: Arc<Shared>,
}

/// The end that they are taken from.
#[derive(Debug)]
pub struct Reports {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<VecDeque<Report>>,
    arrived: Notify,
    dropped: Counter,
}

/// Both ends of a buffer; `dropped` counts the reports that were thrown away.
pub fn intake(dropped: Counter) -> (Intake, Reports) {
    let shared =
        Arc::new(Shared { waiting: Mutex::new(VecDeque::new()), arrived: Notify::new(), dropped });
    let intake = Intake { shared: Arc::clone(&shared) };
    (intake, Reports { shared })
}

// === impl Intake ===

impl Intake {
    /// Hands a report over and returns at once; the oldest waiting one makes room if there is
    /// none.
    pub fn record(&self, report: Report) {
        let mut waiting = self.shared.waiting.lock();
        if waiting.len() >= REPORTS_MAX {
            waiting.pop_front();
            self.shared.dropped.inc();
        }
        waiting.push_back(report);
        drop(waiting);
        self.shared.arrived.notify_one();
    }
}

// === impl Reports ===

impl Reports {
    /// The next report. Loses none when it is cancelled.
    pub async fn next(&mut self) -> Report {
        loop {
            if let Some(report) = self.shared.waiting.lock().pop_front() {
                return report;
            }
            // A permit is kept if a report came since the look above, so none is slept over.
            self.shared.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(name: usize) -> Report {
        Report { activator: name.to_string(), revisions: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_intake_drops_the_oldest_and_counts_it() {
        let dropped = Counter::default();
        let (intake, mut reports) = intake(dropped.clone());
        for name in 0..REPORTS_MAX + 2 {
            intake.record(report(name));
        }
        assert_eq!(dropped.get(), 2);
        assert_eq!(reports.next().await, report(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_wakes_whoever_waits() {
        let (intake, mut reports) = intake(Counter::default());
        let waiting = tokio::spawn(async move { reports.next().await });
        tokio::task::yield_now().await;
        intake.record(report(7));
        assert_eq!(waiting.await.unwrap(), report(7));
    }
}
