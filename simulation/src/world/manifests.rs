//! What a user applies.

use serde_json::{Value, json};

use super::NAMESPACE;
use crate::identity::{HABIT, Habit};
use crate::plan::Wanted;

/// After how long a Revision is given up whose pods never start.
const PROGRESS_DEADLINE: &str = "30s";

/// A Service.
pub(super) fn service(wanted: &Wanted) -> Value {
    let mut spec = json!({"template": template(wanted)});
    if wanted.is_split {
        spec["traffic"] = split(wanted, &json!({"latestRevision": true, "percent": 50}));
    }
    object("Service", wanted, &spec)
}

/// A Configuration, and a Route to it.
pub(super) fn pair(wanted: &Wanted) -> [Value; 2] {
    let newest = json!({"configurationName": wanted.name, "percent": 100});
    let traffic = if wanted.is_split {
        split(wanted, &json!({"configurationName": wanted.name, "percent": 50}))
    } else {
        json!([newest])
    };
    [
        object("Configuration", wanted, &json!({"template": template(wanted)})),
        object("Route", wanted, &json!({"traffic": traffic})),
    ]
}

fn object(kind: &str, wanted: &Wanted, spec: &Value) -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": kind,
        "metadata": {"name": wanted.name, "namespace": NAMESPACE},
        "spec": spec,
    })
}

/// Half for the newest Revision and half for the first.
fn split(wanted: &Wanted, newest: &Value) -> Value {
    json!([newest, {"revisionName": format!("{}-00001", wanted.name), "percent": 50}])
}

fn template(wanted: &Wanted) -> Value {
    let habit = match wanted.habit {
        Habit::Well => "well",
        Habit::Slow => "slow",
        Habit::Broken => "broken",
    };
    let mut annotations =
        json!({HABIT: habit, "serving.knative.dev/progress-deadline": PROGRESS_DEADLINE});
    if wanted.min_scale > 0 {
        annotations["autoscaling.knative.dev/min-scale"] = wanted.min_scale.to_string().into();
    }
    let port = if wanted.is_h2 { "h2c" } else { "http1" };
    json!({
        "metadata": {"annotations": annotations},
        "spec": {
            "containerConcurrency": wanted.limit,
            "timeoutSeconds": wanted.timeout_s,
            "containers": [{
                "image": "simulated",
                "env": [{"name": "GENERATION", "value": wanted.generation.to_string()}],
                "ports": [{"name": port, "containerPort": 8080}],
            }],
        },
    })
}
