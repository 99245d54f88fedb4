//! Bars below the lines of a terminal: how much of a model has come.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

const BAR: &str = " fetching {prefix} {wide_bar} {percent}% {binary_bytes}/{binary_total_bytes} \
                   {binary_bytes_per_sec} {eta}";
const BAR_WITHOUT_TOTAL: &str = " fetching {prefix} {binary_bytes} {binary_bytes_per_sec}";

/// The bars, by what they are of.
#[derive(Debug)]
pub(super) struct Bars {
    all: MultiProgress,
    of: BTreeMap<String, ProgressBar>,
}

// === impl Bars ===

impl Bars {
    /// Bars on standard output; `None` where nobody can see them, as on a terminal that cannot move its
    /// cursor.
    pub(super) fn new() -> Option<Self> {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        (!all.is_hidden()).then(|| Self { all, of: BTreeMap::new() })
    }

    /// Runs what writes lines.
    pub(super) fn suspend(&self, write: impl FnOnce()) {
        self.all.suspend(write);
    }

    /// Draws how many bytes of how many there are, or takes the bar away.
    pub(super) fn draw(&mut self, name: &str, progress: Option<(u64, Option<u64>)>) {
        let Some((done, total)) = progress else {
            if let Some(bar) = self.of.remove(name) {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
            return;
        };
        let all = &self.all;
        let bar = self.of.entry(name.to_owned()).or_insert_with(|| {
            let bar = ProgressBar::no_length().with_style(style(BAR_WITHOUT_TOTAL));
            // Drawn as soon as it is one of them.
            all.add(bar.with_prefix(name.to_owned()))
        });
        if let Some(total) = total.filter(|total| bar.length() != Some(*total)) {
            bar.set_style(style(BAR));
            bar.set_length(total);
        }
        bar.set_position(done);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well-formed")
}
