//! What a fetch tells: people at a terminal, a log, and `K.progress` for other programs.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use ebb_api::quantity;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tokio::time::Instant;

use crate::cache;
use crate::cache::CachePlace;
use crate::cache::record::read_json;
use crate::cache::room::PROGRESS_BYTES_MAX;
use crate::meter::{FetchPhase, Meter};

/// How often the file of progress is written, and a bar drawn: people see no more.
const WRITE_EVERY: Duration = Duration::from_millis(500);
/// How often a log gets a line.
const LINE_EVERY: Duration = Duration::from_secs(5);
const BAR: &str =
    "{msg} {wide_bar} {percent}% {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
const BAR_WITHOUT_TOTAL: &str = "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec}";

/// The variable that names Kubernetes' file for a container's last words.
const TERMINATION_LOG: &str = "EBB_TERMINATION_LOG";

/// Where lines go.
#[derive(Clone, Debug)]
pub(crate) struct FetchReport {
    is_quiet: bool,
    bar: Option<ProgressBar>,
}

/// The file of progress.
#[derive(Serialize)]
struct ProgressFile {
    done: u64,
    total: Option<u64>,
    phase: FetchPhase,
    error: Option<String>,
}

// === impl FetchReport ===

impl FetchReport {
    pub(crate) fn new(is_quiet: bool) -> Self {
        let draws = !is_quiet && std::io::stderr().is_terminal();
        let bar = draws.then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        Self { is_quiet, bar }
    }

    /// A line for people.
    pub(crate) fn note(&self, line: &str) {
        match &self.bar {
            _ if self.is_quiet => {}
            Some(bar) => bar.suspend(|| print(line)),
            None => print(line),
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Tells of progress until it is dropped.
    pub(crate) async fn run(
        &self,
        place: CachePlace,
        meter: Arc<Meter>,
    ) -> std::convert::Infallible {
        let mut ticks = tokio::time::interval(WRITE_EVERY);
        let mut line_at = Instant::now() + LINE_EVERY;
        // When the first byte came, and how many came before: what was there took no time.
        let mut began: Option<Instant> = None;
        loop {
            let now = ticks.tick().await;
            let (to, counted) = (place.clone(), meter.clone());
            // A disk that cannot take it ends the fetch elsewhere.
            drop(tokio::task::spawn_blocking(move || write(&to, &counted)).await);
            if meter.over_the_network() > 0 {
                began.get_or_insert(now);
            }
            if let Some(bar) = &self.bar {
                draw(bar, &meter);
            } else if now >= line_at {
                line_at = now + LINE_EVERY;
                let lasted = began.map_or(Duration::ZERO, |began| now - began);
                self.note(&line(&meter, lasted));
            }
        }
    }
}

/// Writes the file of progress. Blocks.
pub(crate) fn write(place: &CachePlace, meter: &Meter) -> std::io::Result<()> {
    let _alone = meter.writes.lock();
    let (done, total, phase, error) = (meter.done(), meter.total(), meter.phase(), meter.error());
    let bytes = serde_json::to_vec(&ProgressFile { done, total, phase, error })?;
    cache::replace(&place.progress(), &bytes, false)
}

/// Whether the file of progress says that the model is there.
pub(crate) fn says_done(place: &CachePlace) -> bool {
    #[derive(serde::Deserialize)]
    struct Said {
        phase: FetchPhase,
    }
    let said: Option<Said> = read_json(&place.progress(), PROGRESS_BYTES_MAX);
    said.is_some_and(|said| said.phase == FetchPhase::Done)
}

/// Writes why the fetch failed, alone, to the file that `EBB_TERMINATION_LOG` names: what Kubernetes
/// takes of the lines printed before it would hide the reason. The last line says it anyway, so a
/// file that cannot be written is no error.
pub(crate) fn tell_reason(sentence: &str) {
    if let Some(path) = std::env::var_os(TERMINATION_LOG).filter(|path| !path.is_empty()) {
        drop(std::fs::write(path, sentence));
    }
}

/// Prints a line to standard error; nobody may be there to read it.
pub(crate) fn print(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

fn draw(bar: &ProgressBar, meter: &Meter) {
    bar.set_message(doing(meter.phase()));
    let total = meter.total().filter(|total| *total > 0);
    if total != bar.length() || bar.position() == 0 {
        let template = if total.is_some() { BAR } else { BAR_WITHOUT_TOTAL };
        bar.set_style(ProgressStyle::with_template(template).expect("the template is well-formed"));
        if let Some(total) = total {
            bar.set_length(total);
        }
    }
    bar.set_position(meter.done());
}

fn doing(phase: FetchPhase) -> &'static str {
    match phase {
        FetchPhase::Listing => "Listing",
        FetchPhase::Downloading => "Downloading",
        FetchPhase::Checking => "Checking",
        FetchPhase::Unpacking => "Unpacking",
        FetchPhase::Done => "Done",
        FetchPhase::Failed => "Failed",
    }
}

/// A line of progress for a log.
fn line(meter: &Meter, lasted: Duration) -> String {
    let (done, doing) = (meter.done(), doing(meter.phase()));
    let so_far = match meter.total().filter(|total| *total > 0) {
        Some(total) => {
            let percent = u128::from(done) * 100 / u128::from(total);
            format!("{doing}: {percent}% of {}", quantity::bytes(total))
        }
        None => format!("{doing}: {}", quantity::bytes(done)),
    };
    let millis = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
    let speed = (meter.over_the_network().saturating_mul(1000)).checked_div(millis).unwrap_or(0);
    if meter.phase() != FetchPhase::Downloading || speed == 0 {
        return so_far;
    }
    let left = meter.total().map(|total| Duration::from_secs(total.saturating_sub(done) / speed));
    let left = left.map_or(String::new(), |left| format!(", {} left", time(left)));
    format!("{so_far} at {}/s{left}", quantity::bytes(speed))
}

/// A time for people.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) if seconds < 10 => format!("{:.1} s", time.as_secs_f64()),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_percent_bytes_speed_and_estimate() {
        let meter = Meter::default();
        meter.set_total(Some(1 << 30));
        meter.enter(FetchPhase::Downloading);
        meter.has(256 << 20);
        meter.came(256 << 20);
        let text = line(&meter, Duration::from_secs(4));
        assert_eq!(text, "Downloading: 50% of 1Gi at 64Mi/s, 8.0 s left");
        meter.set_total(None);
        assert_eq!(line(&meter, Duration::from_secs(4)), "Downloading: 512Mi at 64Mi/s");
        meter.enter(FetchPhase::Unpacking);
        assert_eq!(line(&meter, Duration::ZERO), "Unpacking: 512Mi");
    }

    #[test]
    fn times_have_two_units_at_most() {
        let times = [(1, "1.0 s"), (59, "59 s"), (61, "1 min 1 s"), (3661, "1 h 1 min")];
        for (seconds, text) in times {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }
}
