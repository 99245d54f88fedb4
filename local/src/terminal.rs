//! The terminal's output: one line for each thing that happens to a service.
//!
//! Two forms of the same events: sentences for people (in colour on a terminal) and one JSON
//! object a line for programs (`-o json`).

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use ebb_api::quantity;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

mod bars;
use bars::Bars;

/// Something that a person who runs Ebb wants to know.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum TerminalEvent {
    /// Everything listens; the state of the last run is back.
    Started {
        /// Where requests go.
        gateway: String,
        /// Where requests to cluster-local hosts go.
        inner: String,
        /// Where `kubectl` goes.
        api: String,
        /// Files that may be open at once: the hard limit, which the soft one was raised to.
        files: u64,
        /// Clients that may be connected at once, which the files and the memory allow.
        connections: usize,
        /// Bytes that all replicas may have in memory together.
        #[serde(skip_serializing_if = "Option::is_none")]
        memory: Option<u64>,
        /// Devices that are handed out to replicas, by resource.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        devices: BTreeMap<String, u64>,
        /// The kubeconfig with which `kubectl` finds the API.
        kubeconfig: String,
    },
    /// A manifest given with `-f` was applied.
    Applied {
        /// Kind and name, as `kubectl` prints it.
        object: String,
    },
    /// A service is ready to be called.
    Deployed {
        /// `namespace/name` of the service.
        service: String,
        /// Its address.
        url: String,
        /// The revision that gets the requests.
        revision: String,
    },
    /// A revision cannot run.
    Failed {
        /// `namespace/name` of the revision.
        revision: String,
        /// One word.
        reason: String,
        /// A sentence.
        message: String,
    },
    /// A revision asks for what a program of this machine does not get.
    LeftOut {
        /// `namespace/name` of the revision.
        revision: String,
        /// The fields, as paths below `spec.template.spec`.
        fields: Vec<String>,
        /// How many more there are.
        more: usize,
        /// Why limits are among them, if they are.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A request waits for a revision without replicas.
    Waking {
        /// `namespace/name` of the revision.
        revision: String,
    },
    /// A pod finds no room on this machine.
    Waiting {
        /// `namespace/name` of the pod.
        pod: String,
        /// What is lacking.
        message: String,
    },
    /// The files of a model come.
    Fetching {
        /// `namespace/name` of the revision.
        revision: String,
        /// Where they come from.
        model: String,
        /// Bytes that are there.
        done: u64,
        /// Bytes of all of them, once that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
    },
    /// They are there.
    Fetched {
        /// `namespace/name` of the revision.
        revision: String,
        /// Where they came from.
        model: String,
        /// Bytes of all of them.
        bytes: u64,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// The first replica takes requests.
    Ready {
        /// `namespace/name` of the revision.
        revision: String,
        /// From the request that woke it, in milliseconds.
        took_ms: u64,
    },
    /// The number of replicas changed while the revision is awake.
    Scaled {
        /// `namespace/name` of the revision.
        revision: String,
        /// Ready replicas now.
        replicas: i32,
    },
    /// The last replica is gone.
    Asleep {
        /// `namespace/name` of the revision.
        revision: String,
    },
    /// A service was deleted.
    Deleted {
        /// `namespace/name` of the service.
        service: String,
    },
    /// The drain has begun.
    Stopping {
        /// Longest time that requests in flight are waited for, in seconds.
        deadline_s: u64,
    },
    /// Nothing runs any more; the state is kept.
    Stopped {},
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Sentences.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Writes events to standard output, whole lines only. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Terminal {
    output: Output,
    colour: bool,
    /// Standard output, so that two events never share a line.
    line: Arc<Mutex<std::io::Stdout>>,
    /// Bars below the lines, by what they are of, where a person looks.
    bars: Option<Arc<Mutex<Bars>>>,
}

/// One event with its time, as JSON.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a TerminalEvent,
}

// === impl Terminal ===

impl Terminal {
    /// A terminal on standard output; colours only where a person looks and NO_COLOR is unset.
    pub fn new(output: Output) -> Self {
        let is_seen = std::io::stdout().is_terminal();
        let colour = is_seen && std::env::var_os("NO_COLOR").is_none();
        let bars = (is_seen && output == Output::Text).then(Bars::new).flatten();
        let bars = bars.map(|bars| Arc::new(Mutex::new(bars)));
        Self { output, colour, line: Arc::new(Mutex::new(std::io::stdout())), bars }
    }

    /// Whether progress is drawn as bars; it needs no lines then.
    pub fn has_bars(&self) -> bool {
        self.bars.is_some()
    }

    /// Draws how many bytes of how many there are, or takes the bar away.
    pub fn bar(&self, name: &str, progress: Option<(u64, Option<u64>)>) {
        if let Some(bars) = &self.bars {
            bars.lock().draw(name, progress);
        }
    }

    /// Shows an event. A reader that went away is no reason to stop serving.
    pub fn show(&self, event: &TerminalEvent) {
        let text = match self.output {
            Output::Text => sentence(event, self.colour),
            Output::Json => json(event, Timestamp::now()),
        };
        let write = || {
            let mut out = self.line.lock();
            let written = writeln!(out, "{text}").and_then(|()| out.flush());
            drop(written);
        };
        match &self.bars {
            Some(bars) => bars.lock().suspend(write),
            None => write(),
        }
    }
}

/// The event as one JSON object.
fn json(event: &TerminalEvent, now: Timestamp) -> String {
    let line = Line { time: format!("{now:.3}"), event };
    serde_json::to_string(&line).expect("an event is strings and numbers")
}

/// The event as a sentence: a coloured word, the object, the rest.
fn sentence(event: &TerminalEvent, colour: bool) -> String {
    let (word, code, text) = match event {
        TerminalEvent::Started {
            gateway,
            inner,
            api,
            files,
            connections,
            memory,
            devices,
            kubeconfig,
        } => (
            "started",
            GREEN,
            format!(
                "requests {gateway}, cluster-local {inner}, API {api}\n{:>9} {files} open files, \
                 {connections} connections{}\n  \
                 export KUBECONFIG={kubeconfig}",
                "limits",
                room(*memory, devices)
            ),
        ),
        TerminalEvent::Applied { object } => ("applied", PLAIN, object.clone()),
        TerminalEvent::Deployed { service, url, revision } => {
            ("deployed", GREEN, format!("{service} at {url} ({revision})"))
        }
        TerminalEvent::Failed { revision, reason, message } => {
            ("failed", RED, format!("{revision}: {reason}: {message}"))
        }
        TerminalEvent::LeftOut { revision, fields, more, why } => {
            ("left out", YELLOW, format!("{revision}: {}", left_out(fields, *more, why.as_deref())))
        }
        TerminalEvent::Waking { revision } => ("waking", YELLOW, revision.clone()),
        TerminalEvent::Waiting { pod, message } => ("waiting", YELLOW, format!("{pod}: {message}")),
        TerminalEvent::Fetching { revision, model, done, total } => {
            let part = total.filter(|total| *total > 0).map(|total| {
                let percent = u128::from(*done) * 100 / u128::from(total);
                format!("{percent}% of {}", quantity::bytes(total))
            });
            let part = part.unwrap_or_else(|| quantity::bytes(*done));
            ("fetching", YELLOW, format!("{revision}: {part}, from {model}"))
        }
        TerminalEvent::Fetched { revision, model, bytes, took_ms } => {
            let took = readable(Duration::from_millis(*took_ms));
            let bytes = quantity::bytes(*bytes);
            ("fetched", GREEN, format!("{revision}: {bytes} in {took}, from {model}"))
        }
        TerminalEvent::Ready { revision, took_ms } => {
            ("ready", GREEN, format!("{revision} in {}", readable(Duration::from_millis(*took_ms))))
        }
        TerminalEvent::Scaled { revision, replicas } => {
            ("scaled", BLUE, format!("{revision} to {replicas}"))
        }
        TerminalEvent::Asleep { revision } => ("asleep", BLUE, revision.clone()),
        TerminalEvent::Deleted { service } => ("deleted", PLAIN, service.clone()),
        TerminalEvent::Stopping { deadline_s } => (
            "stopping",
            YELLOW,
            format!("waiting for requests in flight, {deadline_s} s at most (again to force)"),
        ),
        TerminalEvent::Stopped {} => {
            ("stopped", PLAIN, "state is kept, the next start goes on from here".to_owned())
        }
    };
    if colour && code != PLAIN {
        format!("\x1b[{code}m{word:>9}\x1b[0m {text}")
    } else {
        format!("{word:>9} {text}")
    }
}

fn left_out(fields: &[String], more: usize, why: Option<&str>) -> String {
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    format!("no effect in local mode: {}{more}{why}", fields.join(", "))
}

/// `, 8Gi of memory and 1 nvidia.com/gpu for models`.
fn room(memory: Option<u64>, devices: &BTreeMap<String, u64>) -> String {
    let memory = memory.map(|bytes| format!("{} of memory", quantity::bytes(bytes)));
    let devices = devices.iter().map(|(resource, count)| format!("{count} {resource}"));
    let all: Vec<_> = memory.into_iter().chain(devices).collect();
    if all.is_empty() { String::new() } else { format!(", {} for models", all.join(" and ")) }
}

const PLAIN: &str = "0";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BLUE: &str = "34";

/// `38 ms`, `1.2 s`: as precise as a person reads.
fn readable(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_sentence_for_people() {
        let ready = TerminalEvent::Ready { revision: "default/digits-00001".into(), took_ms: 38 };
        assert_eq!(sentence(&ready, false), "    ready default/digits-00001 in 38 ms");
        assert!(sentence(&ready, true).starts_with("\x1b[32m    ready\x1b[0m "));
        let slow = TerminalEvent::Ready { revision: "default/chat-00001".into(), took_ms: 3_210 };
        assert!(sentence(&slow, false).ends_with("in 3.2 s"));
    }

    #[test]
    fn the_start_says_what_may_be_open() {
        let started = TerminalEvent::Started {
            gateway: "http://127.0.0.1:8080".into(),
            inner: "http://127.0.0.1:8081".into(),
            api: "https://127.0.0.1:8090".into(),
            files: 524_288,
            connections: 20_000,
            memory: Some(8 << 30),
            devices: [("nvidia.com/gpu".to_owned(), 1)].into(),
            kubeconfig: "/home/me/kubeconfig".into(),
        };
        let said = sentence(&started, false);
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(
            lines[1],
            "   limits 524288 open files, 20000 connections, 8Gi of memory and 1 nvidia.com/gpu for models"
        );
        assert_eq!(lines[2], "  export KUBECONFIG=/home/me/kubeconfig");
    }

    #[test]
    fn what_has_no_effect_is_said_in_one_line() {
        let fields = vec!["nodeSelector".to_owned(), "tolerations".to_owned()];
        let event = TerminalEvent::LeftOut {
            revision: "default/m-00001".into(),
            fields,
            more: 2,
            why: None,
        };
        assert_eq!(
            sentence(&event, false),
            " left out default/m-00001: no effect in local mode: nodeSelector, tolerations and 2 more"
        );
    }

    #[test]
    fn a_fetch_says_how_far_it_is() {
        let fetching = |total| TerminalEvent::Fetching {
            revision: "default/m-00001".into(),
            model: "hf://org/name@main".into(),
            done: 256 << 20,
            total,
        };
        assert_eq!(
            sentence(&fetching(Some(1 << 30)), false),
            " fetching default/m-00001: 25% of 1Gi, from hf://org/name@main"
        );
        assert_eq!(
            sentence(&fetching(None), false),
            " fetching default/m-00001: 256Mi, from hf://org/name@main"
        );
    }

    #[test]
    fn an_event_is_one_json_object_for_programs() {
        let asleep = TerminalEvent::Asleep { revision: "default/digits-00001".into() };
        assert_eq!(
            json(&asleep, Timestamp::UNIX_EPOCH),
            r#"{"time":"1970-01-01T00:00:00.000Z","event":"asleep","revision":"default/digits-00001"}"#
        );
    }
}
