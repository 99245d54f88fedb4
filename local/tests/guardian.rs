//! The guardian as the `ebb` binary runs it: deaf to the terminal.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use ebb_runner::guardian::{Guardian, INSTANCE_VARIABLE};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn guardian(identity: &str) -> (Guardian, Pid) {
    let guardian =
        Guardian::start(identity, Path::new(env!("CARGO_BIN_EXE_ebb"))).expect("it starts");
    let pid = i32::try_from(guardian.pid()).expect("a pid fits");
    // A session of its own is the sign that it is past its first steps. Field 6 of the line.
    let has_session = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let (_, rest) = stat.rsplit_once(") ").unwrap_or_default();
        rest.split(' ').nth(3) == Some(&pid.to_string())
    };
    let is_up = (0..500).any(|_| {
        thread::sleep(Duration::from_millis(10));
        has_session()
    });
    assert!(is_up, "the guardian makes no session");
    (guardian, Pid::from_raw(pid))
}

#[test]
fn signals_of_a_terminal_do_not_end_the_guardian_and_the_end_of_the_pipe_does() {
    let (guardian, pid) = guardian("integration-signals");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGPIPE] {
        kill(pid, signal).expect("it runs");
    }
    thread::sleep(Duration::from_millis(50));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it still runs");
    assert!(!stat.contains(") Z "), "{stat}");
    assert!(guardian.close());
}

#[test]
fn the_guardian_ends_what_carries_its_marker_when_its_pipe_ends() {
    let (guardian, _) = guardian("integration-marker");
    let start = |identity: &str| {
        Command::new("sleep")
            .arg("600")
            .env(INSTANCE_VARIABLE, identity)
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .expect("sleep starts")
    };
    let mut ours = start("integration-marker");
    let mut theirs = start("integration-other");
    assert!(guardian.close());
    let ended = ours.wait().expect("started here");
    assert_eq!(ended.code(), None, "a signal ended it");
    assert!(theirs.try_wait().expect("started here").is_none());
    theirs.kill().expect("it runs");
    theirs.wait().expect("started here");
}
