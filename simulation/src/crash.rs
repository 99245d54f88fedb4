//! A process ends before and after each of its writes: whatever it leaves behind, it is all the same
//! in the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Args, ValueEnum as _};
use parking_lot::Mutex;
use serde_json::Value;

use crate::chance::Chance;
use crate::child::say;
use crate::identity::Habit;
use crate::parts::Part;
use crate::plan::Wanted;
use crate::script::{self, Left, Point, Scenario};
use crate::single;
use crate::story::Story;

/// Differences of one run that are told; more of them rarely say more.
const TOLD_MAX: usize = 6;

/// How to look for writes at which a process must not end.
#[derive(Args)]
pub(crate) struct CrashOptions {
    /// Only this scenario
    #[arg(long)]
    scenario: Option<Scenario>,

    /// Runs at the same time; as many as there are processors if not said
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,

    /// Pairs of states: going from one to the other has to end as going there at once
    #[arg(long, value_name = "N", default_value_t = 40)]
    pairs: u64,
}

/// One run, in a process of its own.
#[derive(Args)]
pub(crate) struct OneOptions {
    /// The scenario
    #[arg(long)]
    scenario: Option<Scenario>,

    /// PART:NUMBER:before or PART:NUMBER:after
    #[arg(long, value_parser = point)]
    point: Option<Point>,

    /// A pair of states, by number: both one after the other, or the second alone
    #[arg(long)]
    pair: Option<u64>,

    /// The second state alone
    #[arg(long)]
    fresh: bool,
}

/// A run of its own: what to tell the child, and what to call it.
struct Task {
    arguments: Vec<String>,
    name: String,
}

/// Runs all scenarios with an end at each write; the exit status is 1 if one is left otherwise.
pub(crate) fn run(options: &CrashOptions) -> ExitCode {
    let jobs = options.jobs.unwrap_or_else(crate::processors);
    let all = Scenario::value_variants().iter().copied();
    let scenarios: Vec<_> =
        all.filter(|one| options.scenario.is_none_or(|only| only == *one)).collect();
    let mut broken = Vec::new();
    for scenario in scenarios {
        broken.extend(sweep(scenario, jobs));
    }
    if options.scenario.is_none() {
        broken.extend(pairs(options.pairs, jobs));
    }
    for how in &broken {
        say(how);
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn sweep(scenario: Scenario, jobs: usize) -> Vec<String> {
    let word = word(scenario);
    let arguments = |point: Option<String>| {
        let mut arguments = vec!["--scenario".to_owned(), word.clone()];
        arguments.extend(point.into_iter().flat_map(|point| ["--point".to_owned(), point]));
        arguments
    };
    let whole = match left_by(&arguments(None)) {
        Ok(whole) => whole,
        Err(error) => return vec![format!("{word}: {error}")],
    };
    let writes = |part: &str| whole["writes"][part].as_u64().unwrap_or(0);
    let points = ["autoscaler", "controller"].into_iter().flat_map(|part| {
        (1..=writes(part)).flat_map(move |number| {
            ["before", "after"].map(|when| format!("{part}:{number}:{when}"))
        })
    });
    let tasks: Vec<_> = points
        .map(|point| Task { name: format!("{word}, {point}"), arguments: arguments(Some(point)) })
        .collect();
    let happened = AtomicUsize::new(0);
    let broken = all(&tasks, jobs, |task, left| {
        if left["ended_at"].is_null() {
            // After its own earlier end a process may need fewer writes.
            return None;
        }
        happened.fetch_add(1, Ordering::Relaxed);
        let different = differences(&whole["objects"], &left["objects"]);
        (!different.is_empty()).then(|| {
            let at = left["ended_at"].as_str().unwrap_or_default();
            format!("{} ({at}) leaves other objects:\n{}", task.name, different.join("\n"))
        })
    });
    say(&format!(
        "{word}: {} writes of the autoscaler and {} of the controller, {} ends, {} of them \
         leave something else",
        writes("autoscaler"),
        writes("controller"),
        happened.load(Ordering::Relaxed),
        broken.len(),
    ));
    broken
}

fn pairs(count: u64, jobs: usize) -> Vec<String> {
    let arguments = |number: u64, is_fresh: bool| {
        let mut arguments = vec!["--pair".to_owned(), number.to_string()];
        arguments.extend(is_fresh.then(|| "--fresh".to_owned()));
        arguments
    };
    let tasks: Vec<_> = (0..count)
        .map(|number| Task { name: format!("pair {number}"), arguments: arguments(number, false) })
        .collect();
    let broken = all(&tasks, jobs, |task, left| {
        let mut fresh = task.arguments.clone();
        fresh.push("--fresh".to_owned());
        let fresh = match left_by(&fresh) {
            Ok(fresh) => fresh,
            Err(error) => return Some(format!("{}: {error}", task.name)),
        };
        if fresh["objects"].as_object().is_none_or(serde_json::Map::is_empty) {
            return Some(format!("{}: nothing is left", task.name));
        }
        let different = differences(&fresh["objects"], &left["objects"]);
        (!different.is_empty()).then(|| {
            format!("{}: {} ends otherwise:\n{}", task.name, left["states"], different.join("\n"))
        })
    });
    say(&format!("{count} pairs of states, {} of them end otherwise", broken.len()));
    broken
}

/// Runs all tasks; returns what is wrong with them.
fn all(
    tasks: &[Task],
    jobs: usize,
    judge: impl Fn(&Task, &Value) -> Option<String> + Sync,
) -> Vec<String> {
    let (next, broken) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(task) = tasks.get(index) else { return };
                    let found = match left_by(&task.arguments) {
                        Ok(left) => judge(task, &left),
                        Err(error) => Some(format!("{}: {error}", task.name)),
                    };
                    if let Some(how) = found {
                        broken.lock().insert(index, how);
                    }
                }
            });
        }
    });
    broken.into_inner().into_values().collect()
}

/// What one run of this program says.
fn left_by(arguments: &[String]) -> Result<Value, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let run = std::process::Command::new(program).arg("crash-one").args(arguments).output();
    let run = run.map_err(|error| error.to_string())?;
    let left: Value = serde_json::from_slice(&run.stdout)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&run.stdout)))?;
    match left["broken"].as_array().and_then(|broken| broken.first()) {
        Some(rule) => Err(format!("a rule is broken on the way: {rule}")),
        None => Ok(left),
    }
}

/// The paths at which two values differ, with both.
fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let mut all = Vec::new();
    compare("", expected, found, &mut all);
    all.truncate(TOLD_MAX);
    all
}

fn compare(path: &str, expected: &Value, found: &Value, all: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for name in
                expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key)))
            {
                let null = Value::Null;
                let (left, right) = (expected.get(name), found.get(name));
                let path = format!("{path}/{name}");
                compare(&path, left.unwrap_or(&null), right.unwrap_or(&null), all);
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                compare(&format!("{path}/{index}"), expected, found, all);
            }
        }
        _ if expected == found => {}
        _ => {
            let mut text = String::new();
            // Writing to a string does not fail.
            let _ = write!(text, "  {path}: {found}, not {expected}");
            all.push(text);
        }
    }
}

/// Lives through one run and prints what is left, as JSON.
pub(crate) fn one(options: &OneOptions) -> ExitCode {
    let story = Story::default();
    let told = story.clone();
    let OneOptions { scenario, point, pair, fresh } = *options;
    let run = move || async move {
        if let Some(scenario) = scenario {
            let Left { writes, ended_at, objects } = script::live(scenario, point, &told).await;
            return serde_json::json!({
                "writes": writes, "ended_at": ended_at, "objects": objects, "broken": broken(&told),
            });
        }
        let [first, second] = states(pair.unwrap_or(0));
        let states = if fresh { vec![second] } else { vec![first, second] };
        let text = format!("{states:?}");
        let objects = script::states(&states, &told).await;
        let objects = newest(objects);
        serde_json::json!({"objects": objects, "states": text, "broken": broken(&told)})
    };
    match single::simulate(1, &story, run) {
        Ok(left) => {
            say(&left.to_string());
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

/// The rules that were broken on the way.
fn broken(story: &Story) -> Vec<String> {
    story.broken().into_iter().map(|broken| format!("{}: {}", broken.rule, broken.how)).collect()
}

/// Two states of a Service.
fn states(number: u64) -> [Wanted; 2] {
    let chance = Chance::new(number, 9);
    [1, 2].map(|generation| Wanted {
        name: "model".to_owned(),
        generation,
        limit: *chance.pick(&[0, 1, 5]),
        timeout_s: *chance.pick(&[10, 60]),
        // With pods that never start, the Revision before goes on to serve.
        habit: *chance.pick(&[Habit::Well, Habit::Slow]),
        min_scale: *chance.pick(&[0, 0, 1, 2]),
        is_split: false,
        is_h2: chance.one_in(3),
        is_pair: false,
    })
}

/// The objects of the newest Revision and what leads there, under names without a number.
fn newest(objects: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let last = objects.keys().filter(|key| key.starts_with("Revision ")).max().cloned();
    let name = last.and_then(|key| Some(key.split_once(' ')?.1.to_owned())).unwrap_or_default();
    let is_old = |key: &str| {
        (key.starts_with("Revision ") || key.starts_with("Deployment ")) && !key.contains(&name)
    };
    let kept = objects.into_iter().filter(|(key, _)| !is_old(key));
    let number = name.rsplit('-').next().unwrap_or_default().trim_start_matches('0').to_owned();
    kept.map(|(key, value)| {
        let text = value.to_string().replace(&name, "NEWEST");
        // Generations count the changes.
        let generation =
            ["generation", "observedGeneration", "serving.knative.dev/configurationGeneration"];
        let mut value: Value = serde_json::from_str(&text).unwrap_or_default();
        forget(&mut value, &generation);
        (key.replace(&name, "NEWEST"), value)
    })
    .filter(|_| !number.is_empty())
    .collect()
}

fn forget(value: &mut Value, names: &[&str]) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !names.contains(&name.as_str()));
            fields.values_mut().for_each(|value| forget(value, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| forget(value, names)),
        _ => {}
    }
}

fn word(scenario: Scenario) -> String {
    let value = scenario.to_possible_value();
    value.map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn point(text: &str) -> Result<Point, String> {
    let mut words = text.split(':');
    let part = match words.next() {
        Some("autoscaler") => Part::Autoscaler,
        Some("controller") => Part::Controller,
        _ => return Err(format!("{text:?} names no part")),
    };
    let number = words.next().and_then(|number| number.parse().ok());
    let number = number.ok_or_else(|| format!("{text:?} has no number"))?;
    match words.next() {
        Some("before") => Ok(Point { part, number, is_after: false }),
        Some("after") => Ok(Point { part, number, is_after: true }),
        _ => Err(format!("{text:?} says neither before nor after")),
    }
}
