//! The program as a process, with a cache of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long a run may take: it ends in a second or so, on a machine that does nothing else.
const RUN_TIMEOUT: Duration = Duration::from_mins(1);

/// Loopback is refused like any other address of this machine.
pub(crate) const LOOPBACK: [&str; 2] = ["--allow-network", "127.0.0.0/8"];

/// A cache, and the environment of those who fetch into it.
pub(crate) struct Cache {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// Standard error and standard output.
    pub(crate) output: String,
}

// === impl Cache ===

impl Cache {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.set(name, &value.to_string());
        self
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The program, not started; nothing of this test's environment reaches it.
    pub(crate) fn command(&self, source: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ebb-fetch"));
        command.env_clear().arg(source).arg("--cache").arg(self.path()).args(arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    pub(crate) fn start(&self, source: &str) -> Child {
        self.command(source, &LOOPBACK).spawn().unwrap()
    }

    pub(crate) async fn run(&self, source: &str) -> Ended {
        end(self.start(source)).await
    }

    pub(crate) async fn run_with(&self, source: &str, arguments: &[&str]) -> Ended {
        end(self.command(source, arguments).spawn().unwrap()).await
    }

    /// The names in the cache, without hidden ones.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = std::fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        keys.sort();
        keys
    }

    /// The folder of the one model.
    pub(crate) fn model(&self) -> PathBuf {
        let keys = self.keys();
        assert_eq!(keys.len(), 1, "{keys:?}");
        self.path().join(&keys[0])
    }

    pub(crate) fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.model().join(name)).unwrap()
    }

    /// The one file of the cache whose name ends so, as JSON.
    pub(crate) fn json(&self, end: &str) -> Value {
        let named: Vec<_> = std::fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_str().unwrap().ends_with(end))
            .collect();
        assert_eq!(named.len(), 1, "{named:?}");
        serde_json::from_slice(&std::fs::read(&named[0]).unwrap()).unwrap()
    }

    /// Everything that the cache holds as text, for what must not be in it.
    pub(crate) fn texts(&self) -> String {
        let mut texts = String::new();
        for entry in std::fs::read_dir(self.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                texts.push_str(path.to_str().unwrap());
                texts.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
            }
        }
        texts
    }

    /// Bytes of all files below the hidden folders of unfinished models.
    pub(crate) fn begun(&self) -> u64 {
        let is_begun = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.ends_with(".partial") || name.ends_with(".archive")
        };
        std::fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(is_begun)
            .map(|path| bytes_below(&path))
            .sum()
    }
}

// === impl Ended ===

impl Ended {
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.output);
        self
    }

    /// Asserts the status, and gives the last line.
    pub(crate) fn failed(&self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}", self.output);
        self.output.lines().last().unwrap_or_default().to_owned()
    }
}

pub(crate) async fn end(child: Child) -> Ended {
    let output = tokio::time::timeout(RUN_TIMEOUT, child.wait_with_output()).await;
    let output = output.expect("the run takes too long").unwrap();
    let text = [output.stdout, output.stderr].concat();
    Ended { code: output.status.code(), output: String::from_utf8(text).unwrap() }
}

fn bytes_below(folder: &Path) -> u64 {
    // A file may be renamed while it is looked at.
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(RUN_TIMEOUT, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "in vain: {what}");
}
