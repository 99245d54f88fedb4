//! The worlds of `make test`. `make simulate` lives through more of them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and says how")]

use std::process::{Command, Output};

/// Worlds of each run of the tests: some two minutes on two cores.
const SEEDS: &str = "0..200";

fn simulation(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ebb-simulation")).args(arguments).output().unwrap()
}

#[test]
fn no_rule_is_broken_in_two_hundred_worlds() {
    let run = simulation(&["run", "--seeds", SEEDS]);
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}");
    assert!(text.contains("200 seeds in "), "{text}");
}

/// The objects in the end are the same, whichever write a process ended at.
#[test]
fn what_is_left_does_not_depend_on_the_write_at_which_a_process_ends() {
    let run = simulation(&["crash", "--pairs", "10"]);
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{text}");
    for scenario in
        ["create", "update", "rollout", "traffic", "scale-up", "scale-to-zero", "delete"]
    {
        let ends = text.lines().find(|line| line.starts_with(&format!("{scenario}: ")));
        assert!(ends.is_some_and(|line| !line.contains(" 0 ends")), "{scenario}: {text}");
    }
}

/// Else a failing seed would tell nothing, nor would its logs.
#[test]
fn a_seed_is_the_same_run_each_time_with_logs_and_without() {
    for seed in 1_000..1_008 {
        let run = |more: &[&str]| {
            let seed = seed.to_string();
            let arguments = [&["replay", &seed, "--brief"], more].concat();
            let run = simulation(&arguments);
            let text = String::from_utf8_lossy(&run.stdout).into_owned();
            assert!(text.contains("digest "), "{text}");
            assert_eq!(run.stderr.is_empty(), more.is_empty(), "seed {seed}: {more:?}");
            text
        };
        let first = run(&[]);
        assert_eq!(first, run(&[]), "seed {seed}");
        assert_eq!(first, run(&["--log", "debug"]), "seed {seed} with logs");
    }
}
