//! Every task has an owner: one that lasts as long as its process is started by
//! `ebb_daemon::tasks::Tasks`, or by a set that its owner joins; all others are listed here.

use std::collections::BTreeMap;

use ebb_tests::binaries::source;

use crate::files::code_in;

/// Crates that run as processes of Ebb.
const CRATES: &[&str] =
    &["activator", "autoscaler", "controller", "daemon", "apiserver", "runner", "fetch", "local"];

/// The files with bare spawns: how many each has, and the owner of those tasks.
const BARE: &[(&str, usize, &str)] = &[
    ("activator/src/progress.rs", 1, "one of hyper's, for a connection: ends with it"),
    ("activator/src/proxy/events.rs", 1, "a waiting request: aborted with its response's body"),
    ("activator/src/revision/pods.rs", 1, "a pod's probe: aborted with what is tracked of the pod"),
    ("activator/src/streams.rs", 1, "a stream's connection: aborted with the stream"),
    ("activator/src/upstream.rs", 2, "connections to a pod: end with it, or when they are idle"),
    ("apiserver/src/listener.rs", 1, "a connection: ends with it, or with the listener"),
    ("apiserver/src/server.rs", 1, "the owner of the background tasks: waited for by close"),
    ("autoscaler/src/notices.rs", 1, "started again for the next notice when it ended"),
    ("daemon/src/tasks.rs", 1, "the owner itself"),
    ("local/src/platform/parts.rs", 1, "the runner: watched, and waited for at the end"),
    ("runner/src/container/run.rs", 1, "a container's probes: aborted with it"),
    ("runner/src/logs/writer.rs", 1, "a container's logs: waited for when it has ended"),
    ("runner/src/pod.rs", 1, "a pod's containers: the pod joins it, and panics as it does"),
];

#[test]
fn a_task_has_an_owner() {
    let mut found = BTreeMap::new();
    for name in CRATES {
        for (path, code) in code_in(&source().join(name).join("src")) {
            let spawns = code.matches("tokio::spawn(").count();
            if spawns > 0 {
                let path = path.strip_prefix(source()).unwrap().display().to_string();
                found.insert(path, spawns);
            }
        }
    }
    let allowed = BARE.iter().map(|(path, spawns, _)| ((*path).to_owned(), *spawns)).collect();
    assert_eq!(found, allowed, "start it by Tasks or a JoinSet, or say here who owns it");
}
