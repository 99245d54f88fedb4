//! Who writes which field.

use std::collections::BTreeMap;

use ebb_autoscaler::pods::DELETION_COST;
use http::Method;
use serde_json::Value;

use super::Judge;
use super::writes::role;
use crate::api_link::Call;
use crate::invariants::ONE_WRITER;
use crate::network::Name;

/// The fields that Ebb writes, by the plural of the kind, and the part that writes them. One process
/// of a part writes at a time: the one that holds the lease. `desiredReplicas`, which is in the
/// status of a Revision, has a rule of its own.
const FIELDS: &[(&str, &[&str], &str)] = &[
    ("services", &["status"], "controller"),
    ("configurations", &["spec"], "controller"),
    ("configurations", &["status"], "controller"),
    ("routes", &["spec"], "controller"),
    ("routes", &["status"], "controller"),
    ("revisions", &["spec"], "controller"),
    ("revisions", &["status"], "controller"),
    ("revisions", &["metadata", "labels"], "controller"),
    ("revisions", &["metadata", "annotations"], "controller"),
    ("deployments", &["spec", "template"], "controller"),
    ("deployments", &["spec", "replicas"], "controller"),
    ("pods", &["metadata", "annotations", DELETION_COST], "autoscaler"),
];

/// What the fields are and the term that wrote them, by the object's UID and the place in [`FIELDS`].
#[derive(Default)]
pub(super) struct Fields(BTreeMap<(String, usize), (Value, Option<i64>)>);

impl Judge {
    /// One of Ebb's processes has written an object, which is so now.
    pub(super) fn fields_written(&self, by: &Name, call: &Call, object: &Value) {
        let Some(uid) = object["metadata"]["uid"].as_str() else { return };
        if call.method == Method::DELETE {
            return;
        }
        let is_scale = call.path.ends_with("/scale");
        let names = call.path.rsplit('/').take(3);
        let mut broken = Vec::new();
        let mut locked = self.state.lock();
        let state = &mut *locked;
        for name in names {
            let of_kind = FIELDS.iter().enumerate().filter(|(_, (kind, ..))| *kind == name);
            for (index, (_, path, part)) in of_kind {
                // A Scale has nothing else of its Deployment.
                if is_scale && path.last() != Some(&"replicas") {
                    continue;
                }
                let value = value(object, path);
                let key = (uid.to_owned(), index);
                let (before, last) = state.fields.0.get(&key).unwrap_or(&(Value::Null, None));
                if before == &value {
                    continue;
                }
                let last = *last;
                state.fields.0.insert(key, (value, last.max(call.term)));
                let tenure = state.written.leases.get(&format!("ebb-{part}"));
                // What comes late is set right: a mark (see `marks`), and what a controller writes, by
                // the next reconcile of the one that leads. Its scales are conditional.
                let is_mended = call.is_late && !is_scale;
                let holds = is_mended || tenure.is_none_or(|tenure| tenure.covers(by, call, last));
                if role(by) != *part || !holds {
                    broken.push(format!(
                        "{by} writes {} of {}, sent in term {:?}, and the lease of the {part} is {tenure:?}",
                        path.join("."),
                        call.path,
                        call.term,
                    ));
                }
            }
        }
        drop(locked);
        for how in broken {
            self.story.blame(ONE_WRITER, how);
        }
    }
}

/// The field without what has a rule of its own.
fn value(object: &Value, path: &[&str]) -> Value {
    let mut value = path.iter().fold(object, |value, name| &value[*name]).clone();
    let Some(fields) = value.as_object_mut() else { return value };
    fields.remove("desiredReplicas");
    // A status that the first scale has made says nothing else yet.
    if fields.is_empty() { Value::Null } else { value }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::api_link::Witness as _;
    use crate::story::Story;

    fn write(judge: &Judge, path: &str, term: Option<i64>, object: &Value) {
        let call = Call {
            method: Method::PUT,
            path: path.to_owned(),
            term,
            held: Duration::ZERO,
            is_late: false,
            is_conditional: false,
        };
        let answer = Bytes::from(object.to_string());
        judge.wrote(&"controller-0".into(), &call, StatusCode::OK, &answer);
    }

    #[test]
    fn a_write_of_an_earlier_term_is_late_even_if_its_sender_leads_again() {
        let story = Story::default();
        let judge = Judge::new(&story, "example.com");
        let name: Name = "controller-0".into();
        let lease = |term: i64| {
            let spec = json!({"holderIdentity": "controller-0", "leaseTransitions": term});
            json!({"metadata": {"name": "ebb-controller"}, "spec": spec})
        };
        let service = |word: &str| json!({"metadata": {"uid": "1"}, "status": {"url": word}});
        write(&judge, "/leases/ebb-controller", None, &lease(1));
        let early = judge.term(&name);
        write(&judge, "/leases/ebb-controller", None, &lease(3));
        write(&judge, "/services/a/status", judge.term(&name), &service("one"));
        assert!(story.broken().is_empty());
        write(&judge, "/services/a/status", early, &service("two"));
        assert_eq!(story.broken().first().map(|broken| broken.rule), Some(ONE_WRITER));
    }
}
