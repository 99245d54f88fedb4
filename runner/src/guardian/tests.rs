//! The guardian against real processes.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::census::read_stat;
use super::*;

/// Set in the environment of a copy of this test program that is to act a part.
const PART: &str = "EBB_TEST_PART";

fn copy_of_this_test(part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a running test has a path"));
    command
        .args(["--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .arg(format!("guardian::tests::{part}"))
        .env(PART, part);
    command
}

fn is_alive(pid: i32) -> bool {
    read_stat(pid).is_some()
}

/// Waits up to five seconds of real time, in which real processes end.
fn wait_until(what: impl Fn() -> bool) -> bool {
    (0..250).any(|_| {
        thread::sleep(Duration::from_millis(20));
        what()
    })
}

fn pids_in(file: &Path, count: usize) -> Vec<i32> {
    let read = || -> Vec<i32> {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    assert!(wait_until(|| read().len() >= count), "{count} pids in {}", file.display());
    read()
}

#[test]
#[ignore = "a part that a copy of this program acts, started by the test below"]
fn the_guardian() {
    if std::env::var_os(PART).is_some() {
        assert_eq!(main(), ExitCode::SUCCESS);
    }
}

/// Plays Ebb: starts a guardian, a replica with a grandchild in a session of its own, and a replica
/// that hides its environment; then sleeps until it is killed.
#[test]
#[ignore = "a part that a copy of this program acts, started by the test below"]
fn the_parent() {
    let Some(folder) = std::env::var_os("EBB_TEST_FOLDER") else {
        return;
    };
    let guardian = Guardian::start_with(copy_of_this_test("the_guardian"), "kill-nine")
        .expect("the guardian starts");
    let start = |script: &str, marked: bool| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).current_dir(&folder).process_group(0).stdin(Stdio::null());
        if marked {
            command.env(INSTANCE_VARIABLE, "kill-nine");
        }
        i32::try_from(command.spawn().expect("sh starts").id()).expect("a pid fits")
    };
    start(
        "trap '' TERM; echo $$ >> pids; setsid sh -c 'echo $$ >> pids; sleep 600 & wait' & \
         while true; do sleep 1; done",
        true,
    );
    let hidden = start("echo $$ >> pids; sleep 600 & wait", false);
    let registration = guardian.register(hidden);
    assert!(registration.is_some());
    thread::sleep(Duration::from_mins(1));
}

#[test]
fn replicas_and_their_grandchildren_end_when_their_ebb_is_killed() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let mut parent = copy_of_this_test("the_parent")
        .env("EBB_TEST_FOLDER", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a copy of this test starts");
    let pids = pids_in(&folder.path().join("pids"), 3);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    parent.kill().expect("it runs");
    parent.wait().expect("it was started here");
    assert!(wait_until(|| !pids.iter().any(|pid| is_alive(*pid))), "left: {pids:?}");
}

#[test]
fn a_sweep_ends_marked_processes_only() {
    let start = |identity: &str| {
        Command::new("sleep")
            .arg("600")
            .env(INSTANCE_VARIABLE, identity)
            .spawn()
            .expect("sleep starts")
    };
    let mut ours = start("sweep-ours");
    let mut theirs = start("sweep-theirs");
    let swept = sweep("sweep-ours");
    assert_eq!(swept, Sweep { found: 1, left: 0 });
    assert!(ours.wait().expect("started here").code().is_none(), "ended by a signal");
    assert!(theirs.try_wait().expect("started here").is_none(), "still runs");
    theirs.kill().expect("it runs");
    theirs.wait().expect("started here");
}

#[test]
fn a_guardian_without_replicas_ends_with_its_pipe() {
    let guardian = Guardian::start_with(copy_of_this_test("the_guardian"), "nobody")
        .expect("the guardian starts");
    assert!(guardian.close());
}

#[test]
fn a_guardian_that_was_killed_is_started_again() {
    let guardian = Guardian::start_with(copy_of_this_test("the_guardian"), "twice")
        .expect("the guardian starts");
    let first = guardian.pid();
    kill(Pid::from_raw(i32::try_from(first).expect("a pid fits")), Signal::SIGKILL)
        .expect("it runs");
    let mut replica = Command::new("sleep")
        .arg("600")
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .expect("sleep starts");
    let leader = i32::try_from(replica.id()).expect("a pid fits");
    assert!(
        wait_until(|| {
            drop(guardian.register(leader));
            guardian.pid() != first
        }),
        "no new guardian"
    );
    let registration = guardian.register(leader);
    assert!(registration.is_some());
    assert!(guardian.close());
    let mut rest = String::new();
    let mut output = replica.stdout.take().expect("piped");
    output.read_to_string(&mut rest).expect("its end closes it");
    assert!(replica.wait().expect("started here").code().is_none());
}
