//! One seed in a process of its own, seen from outside.
#![allow(clippy::disallowed_types, reason = "here the machine's time counts")]

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

/// Most processor time for one seed. One takes a second; whoever takes so long is caught in a loop in
/// which simulated time does not go on. The machine's clock would say so of one beside a build, too.
const SEED_CPU_S: u64 = 120;
/// Longest time for one seed by the machine's clock: one that takes no processor time waits for itself.
const SEED_TIMEOUT: Duration = Duration::from_mins(30);
/// How often a child is looked at.
const POLL: Duration = Duration::from_millis(5);
/// How one run of a seed ended.
pub(crate) struct Ended {
    /// The first rule that was broken, if any.
    pub(crate) broken: Option<String>,
    /// Everything that it said.
    pub(crate) text: String,
}

/// Ends this process once it has had the processor time of a seed.
pub(crate) fn limit_processor_time() {
    // At the second limit the kernel's signal would be the one of a machine short of memory.
    if let Err(error) = setrlimit(Resource::RLIMIT_CPU, SEED_CPU_S, SEED_CPU_S + 10) {
        say(&format!("No limit of processor time: {error}"));
    }
}

/// Lives through a seed in a process of its own, without some of its steps.
pub(crate) fn one(seed: u64, without: &[usize]) -> Ended {
    let numbers: Vec<_> = without.iter().map(ToString::to_string).collect();
    let mut command = match std::env::current_exe() {
        Ok(program) => Command::new(program),
        Err(error) => return failed(format!("this program is not found: {error}")),
    };
    command.args(["replay", &seed.to_string(), "--brief"]);
    if !numbers.is_empty() {
        command.args(["--without", &numbers.join(",")]);
    }
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return failed(format!("no process for the seed: {error}")),
    };
    let begin = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begin.elapsed() < SEED_TIMEOUT => std::thread::sleep(POLL),
            Ok(None) => {
                drop(child.kill());
                drop(child.wait());
                return failed(format!("it does not end within {} s", SEED_TIMEOUT.as_secs()));
            }
            Err(error) => return failed(format!("the process cannot be waited for: {error}")),
        }
    };
    let mut text = String::new();
    if let Some(mut output) = child.stdout.take() {
        drop(output.read_to_string(&mut text));
    }
    let broken = text.lines().find_map(|line| line.strip_prefix("broken at "));
    let broken = broken.and_then(|line| line.split_once(": ").map(|(_, rule)| rule.to_owned()));
    let is_caught = status.signal() == Some(Signal::SIGXCPU as i32);
    let silent = || {
        if is_caught {
            return Some(format!("it does not end within {SEED_CPU_S} s of processor time"));
        }
        (!status.success()).then(|| format!("the process ended with {status}"))
    };
    Ended { broken: broken.or_else(silent), text }
}

fn failed(how: String) -> Ended {
    Ended { text: how.clone(), broken: Some(how) }
}

/// Says something to whoever started this program.
pub(crate) fn say(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}
