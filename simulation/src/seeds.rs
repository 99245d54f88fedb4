//! Many seeds, each in a process of its own.
#![allow(clippy::disallowed_types, reason = "here the machine's time counts")]

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{IsTerminal as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::child::{one, say};
use crate::shrink;

/// Failing seeds that are shrunk and told; more of them only repeat the same fault.
const TOLD_MAX: usize = 3;
/// Seeds from one note of how far the run came to the next.
const NOTE_EVERY: u64 = 50;

/// What to run.
pub(crate) struct Options {
    pub(crate) seeds: Range<u64>,
    pub(crate) jobs: usize,
    pub(crate) resume: Option<PathBuf>,
    pub(crate) is_over_at_first: bool,
}

struct Progress {
    next: AtomicU64,
    done: AtomicU64,
    failed: Mutex<BTreeSet<u64>>,
    /// Seeds that are done beyond the first that is not.
    ahead: Mutex<(u64, BTreeSet<u64>)>,
}

/// Runs the seeds; the exit status is 1 if one fails.
pub(crate) fn run(options: &Options) -> ExitCode {
    let Options { seeds, jobs, resume, .. } = options;
    let from = resume.as_deref().and_then(came_to).map_or(seeds.start, |to| to.max(seeds.start));
    if from > seeds.start {
        say(&format!("Seeds {} to {} passed before", seeds.start, from.min(seeds.end) - 1));
    }
    let progress = Progress {
        next: AtomicU64::new(from),
        done: AtomicU64::new(0),
        failed: Mutex::default(),
        ahead: Mutex::new((from, BTreeSet::new())),
    };
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..(*jobs).max(1) {
            scope.spawn(|| work(options, &progress, begin));
        }
    });
    let failed = progress.failed.into_inner();
    let done = progress.done.into_inner();
    let took = begin.elapsed().as_secs_f64();
    say(&format!("{done} seeds in {took:.0} s, {} failed", failed.len()));
    for seed in failed.iter().take(TOLD_MAX) {
        say(&shrink::tell(*seed));
    }
    if !failed.is_empty() {
        let all: Vec<_> = failed.iter().map(ToString::to_string).collect();
        say(&format!("Failed: {}", all.join(" ")));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn work(options: &Options, progress: &Progress, begin: Instant) {
    loop {
        let is_over = options.is_over_at_first && !progress.failed.lock().is_empty();
        let seed = progress.next.fetch_add(1, Ordering::Relaxed);
        if is_over || seed >= options.seeds.end {
            return;
        }
        let ended = one(seed, &[]);
        let done = progress.done.fetch_add(1, Ordering::Relaxed) + 1;
        match ended.broken {
            Some(rule) => {
                say(&format!("Seed {seed} fails: {rule}"));
                progress.failed.lock().insert(seed);
            }
            None => progress.note(seed, options.resume.as_deref()),
        }
        if done.is_multiple_of(NOTE_EVERY) {
            show(done, options, begin);
        }
    }
}

impl Progress {
    /// Notes how far all seeds have passed.
    fn note(&self, seed: u64, file: Option<&Path>) {
        let mut ahead = self.ahead.lock();
        ahead.1.insert(seed);
        let before = ahead.0;
        while let Some(next) = ahead.1.first().copied().filter(|next| *next == ahead.0) {
            ahead.1.remove(&next);
            ahead.0 += 1;
        }
        if let Some(file) = file
            && (ahead.0 / NOTE_EVERY > before / NOTE_EVERY || ahead.1.is_empty())
        {
            // Without the note the next run only takes longer.
            drop(fs::write(file, format!("{} {:016x}\n", ahead.0, program())));
        }
    }
}

/// The first seed that a file does not say to have passed with this very program.
fn came_to(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let (seed, program) = text.trim().split_once(' ')?;
    (program == format!("{:016x}", self::program())).then(|| seed.parse().ok()).flatten()
}

/// A digest of this program's file.
fn program() -> u64 {
    let bytes = std::env::current_exe().and_then(fs::read).unwrap_or_default();
    let mut digest = DefaultHasher::new();
    digest.write(&bytes);
    digest.finish()
}

fn show(done: u64, options: &Options, begin: Instant) {
    let all = options.seeds.end - options.seeds.start;
    let took = begin.elapsed().as_secs_f64();
    // Precise enough for people.
    #[allow(clippy::cast_precision_loss, reason = "seeds are few")]
    let each = took / done as f64;
    let text = format!("{done} of {all} seeds, {each:.2} s each");
    let mut out = std::io::stderr();
    let end = if out.is_terminal() { "\r" } else { "\n" };
    drop(write!(out, "{text}{end}"));
}
