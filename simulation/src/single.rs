//! One seed, in this process.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::random_state::{RandomSource, set_random_source};
use clap::Args;

use crate::child::limit_processor_time;
use crate::invariants::ALIVE;
use crate::plan::Plan;
use crate::story::Story;
use crate::world;

/// How to live through one seed.
#[derive(Args)]
pub(crate) struct Options {
    /// The seed
    seed: u64,

    /// Numbers of steps of the plan to leave out
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    without: Vec<usize>,

    /// Show only whether it fails, how, and the digest of the run
    #[arg(long)]
    brief: bool,

    /// Show the plan alone
    #[arg(long)]
    plan: bool,

    /// What to log on standard error: a level, or target=level pairs
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

/// Stack of the thread of a world, as the main thread's: futures are large while nothing is optimised.
const STACK: usize = 8 << 20;

/// Keys of the hash maps that take them neither from the C library nor from a seed of their own.
struct Keys(AtomicUsize);

impl RandomSource for Keys {
    fn gen_hasher_seed(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Lives through the seed; the exit status is 1 if a rule was broken.
pub(crate) fn run(options: &Options) -> ExitCode {
    let mut out = std::io::stdout().lock();
    // Whoever closes standard output does not want to read it.
    let mut say = |text: &str| drop(writeln!(out, "{text}"));
    if options.brief {
        limit_processor_time();
    }
    let plan = Plan::of(options.seed).without(&options.without);
    if options.plan {
        say(&plan.text());
        return ExitCode::SUCCESS;
    }
    let story = match live(options, plan) {
        Ok(story) => story,
        Err(error) => {
            say(&error);
            return ExitCode::FAILURE;
        }
    };
    if !options.brief {
        say(&story.text());
    }
    let broken = story.broken();
    for one in &broken {
        let at = one.at.as_secs_f64();
        say(&format!("broken at {at:.3} s: {}: {}", one.rule, one.how));
    }
    let (digest, count) = story.digest();
    say(&format!("digest {digest:016x} of {count} happenings"));
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn live(options: &Options, plan: Plan) -> Result<Story, String> {
    if let Some(filter) = &options.log {
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
        subscriber.with_writer(std::io::stderr).init();
    }
    let story = if options.log.is_some() { Story::loud() } else { Story::default() };
    let (seed, told) = (options.seed, story.clone());
    simulate(seed, &story, move || world::live(seed, plan, told))?;
    Ok(story)
}

/// Runs something in simulated time, with the chance of a seed: once in the life of a process. It
/// runs in a thread of its own: the standard library draws keys of hash maps once for a thread, and
/// whoever sets a log up makes some before the clock is wound.
///
/// # Errors
///
/// Something drew random numbers before, or there is no thread or runtime.
pub(crate) fn simulate<T, F>(
    seed: u64,
    story: &Story,
    run: impl FnOnce() -> F + Send,
) -> Result<T, String>
where
    T: Send,
    F: Future<Output = T>,
{
    set_random_source(Keys(AtomicUsize::new(1))).map_err(|_| "hash maps have keys already")?;
    let again = |seed| format!("the clock was wound before, with {seed}");
    ebb_clockwork::wind(seed).map_err(again)?;
    let witness = story.clone();
    std::panic::set_hook(Box::new(move |panic| witness.blame(ALIVE, panic.to_string())));
    let outcome = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let thread = thread.spawn_scoped(scope, || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build();
            runtime.map(|runtime| runtime.block_on(run())).map_err(|error| error.to_string())
        });
        thread.map_err(|error| error.to_string()).map(std::thread::ScopedJoinHandle::join)
    })?;
    drop(std::panic::take_hook());
    outcome.unwrap_or_else(|_| {
        let broken = story.broken();
        Err(broken.last().map(|last| last.how.clone()).unwrap_or_default())
    })
}
