//! Leaves out of a failing seed what its failure does not need.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::child::{self, Ended};
use crate::plan::Plan;

/// Runs of a seed to make it smaller: some minutes.
const RUNS_MAX: u32 = 250;

/// A seed that fails, and how.
struct Failure {
    seed: u64,
    /// The rule that is broken: a smaller run has to break it, too.
    rule: String,
    runs: u32,
}

/// Shrinks a seed and tells its story; the exit status is 1 if it fails.
pub(crate) fn run(seed: u64) -> ExitCode {
    let whole = child::one(seed, &[]);
    if whole.broken.is_none() {
        child::say(&format!("Seed {seed} does not fail: there is nothing to shrink"));
        return ExitCode::SUCCESS;
    }
    child::say(&tell(seed));
    ExitCode::FAILURE
}

/// The story of a failing seed, as short as it can be.
pub(crate) fn tell(seed: u64) -> String {
    let whole = child::one(seed, &[]);
    let Some(rule) = whole.broken.as_deref().map(rule) else {
        return format!(
            "Seed {seed} failed once and does not fail again: that is a fault of the simulation"
        );
    };
    let mut failure = Failure { seed, rule, runs: 0 };
    let all = Plan::of(seed).steps.len();
    let (without, ended) = failure.shrink(all, whole);
    let mut text = String::new();
    let kept: Vec<_> = (0..all).filter(|step| !without.contains(step)).collect();
    let numbers: Vec<_> = without.iter().map(ToString::to_string).collect();
    let again = format!("replay {seed} --without {}", numbers.join(","));
    let _ = writeln!(text, "Seed {seed} needs {} of its {all} steps to break a rule:", kept.len());
    text.push_str(&Plan::of(seed).without(&without).text());
    for line in ended.text.lines().filter(|line| line.starts_with("broken at ")) {
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "Its story: ebb-simulation {again}");
    text
}

impl Failure {
    /// The steps that can be left out, and how the run without them ends. First many at once, then
    /// fewer, then one by one.
    fn shrink(&mut self, all: usize, whole: Ended) -> (Vec<usize>, Ended) {
        let mut kept: Vec<usize> = (0..all).collect();
        let mut best = (Vec::new(), whole);
        let mut size = all.div_ceil(2);
        while size > 0 && self.runs < RUNS_MAX {
            let mut index = 0;
            let mut is_smaller = false;
            while index < kept.len() && self.runs < RUNS_MAX {
                let end = (index + size).min(kept.len());
                let fewer: Vec<_> = kept[..index].iter().chain(&kept[end..]).copied().collect();
                let without: Vec<_> = (0..all).filter(|step| !fewer.contains(step)).collect();
                self.runs += 1;
                let ended = child::one(self.seed, &without);
                if ended.broken.as_deref().is_some_and(|broken| rule(broken) == self.rule) {
                    (kept, best, is_smaller) = (fewer, (without, ended), true);
                } else {
                    index = end;
                }
            }
            // The last rounds go on while each still finds something.
            size = if size == 1 && is_smaller { 1 } else { size / 2 };
        }
        best
    }
}

/// The rule in `RULE: how`.
fn rule(broken: &str) -> String {
    broken.split(": ").next().unwrap_or_default().to_owned()
}
