//! `AdmissionReview` (`admission.k8s.io/v1`): from its bytes to the answer's JSON.
//!
//! Objects stay JSON on the way: a patch must fit what the API server sent, field by field.

use json_patch::diff;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admission::{Operation, Request, Verdict};

/// Version of the API that is spoken.
const API_VERSION: &str = "admission.k8s.io/v1";

#[derive(Deserialize)]
struct Review {
    request: Asked,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    uid: String,
    kind: GroupVersionKind,
    operation: String,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    object: Option<Value>,
    #[serde(default)]
    old_object: Option<Value>,
    #[serde(default)]
    user_info: User,
}

#[derive(Deserialize)]
struct GroupVersionKind {
    group: String,
    version: String,
    kind: String,
}

#[derive(Default, Deserialize)]
struct User {
    #[serde(default)]
    username: Option<String>,
}

/// The answer to a review, with the verdict that `decide` comes to.
///
/// # Errors
///
/// A message for the client whose bytes are no review.
pub(super) fn answer(
    body: &[u8],
    decide: impl FnOnce(&Request<'_>) -> Verdict,
) -> Result<Value, String> {
    let Review { request: asked } = serde_json::from_slice(body)
        .map_err(|error| format!("the body is not an AdmissionReview of {API_VERSION}: {error}"))?;
    let response = match operation(&asked.operation) {
        // A connection to a pod, say: nothing is stored.
        None => json!({"allowed": true}),
        Some(operation) => {
            let request = request(&asked, operation);
            response(asked.object.as_ref(), decide(&request))
        }
    };
    let mut review = json!({
        "apiVersion": API_VERSION,
        "kind": "AdmissionReview",
        "response": response,
    });
    review["response"]["uid"] = Value::String(asked.uid);
    Ok(review)
}

fn operation(name: &str) -> Option<Operation> {
    match name {
        "CREATE" => Some(Operation::Create),
        "UPDATE" => Some(Operation::Update),
        "DELETE" => Some(Operation::Delete),
        _ => None,
    }
}

fn request(asked: &Asked, operation: Operation) -> Request<'_> {
    Request {
        group: &asked.kind.group,
        version: &asked.kind.version,
        kind: &asked.kind.kind,
        operation,
        subresource: asked.sub_resource.as_deref().filter(|name| !name.is_empty()),
        object: asked.object.as_ref().filter(|object| !object.is_null()),
        old: asked.old_object.as_ref().filter(|object| !object.is_null()),
        username: asked.user_info.username.as_deref(),
    }
}

fn response(sent: Option<&Value>, verdict: Verdict) -> Value {
    match verdict {
        Verdict::Allowed { object, warnings } => {
            let mut response = json!({"allowed": true});
            if let (Some(sent), Some(object)) = (sent, object) {
                let patch = serde_json::to_vec(&diff(sent, &object))
                    .expect("a patch has string keys only and always serialises");
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(k8s_openapi::ByteString(patch));
            }
            if !warnings.is_empty() {
                response["warnings"] = json!(warnings);
            }
            response
        }
        Verdict::Denied { code, message } => json!({
            "allowed": false,
            "status": {
                "status": "Failure",
                "message": message,
                "reason": "BadRequest",
                "code": code,
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ebb_api::config::Config;
    use proptest::prelude::*;

    use super::*;
    use crate::admission;

    fn asked(object: &Value) -> Vec<u8> {
        json!({
            "apiVersion": API_VERSION,
            "kind": "AdmissionReview",
            "request": {
                "uid": "7",
                "kind": {"group": "serving.knative.dev", "version": "v1", "kind": "Service"},
                "operation": "CREATE",
                "subResource": "",
                "object": object,
                "oldObject": null,
                "userInfo": {"username": "alice"},
            },
        })
        .to_string()
        .into_bytes()
    }

    fn service(image: &str) -> Value {
        json!({
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": "hello", "namespace": "default", "creationTimestamp": null},
            "spec": {"template": {"spec": {"containers": [{"image": image}]}}},
        })
    }

    #[test]
    fn the_patch_makes_of_the_object_what_defaulting_made_of_it() {
        let (sent, config) = (service("hello"), Arc::new(Config::default()));
        let answer = answer(&asked(&sent), |request| admission::mutate(request, &config)).unwrap();
        let response = &answer["response"];
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("7"), &json!(true)));
        let patch: k8s_openapi::ByteString =
            serde_json::from_value(response["patch"].clone()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch.0).unwrap();
        let mut patched = sent;
        json_patch::patch(&mut patched, &patch).unwrap();
        assert_eq!(patched["metadata"]["annotations"]["serving.knative.dev/creator"], "alice");
        assert_eq!(patched["spec"]["template"]["spec"]["timeoutSeconds"], 300);
    }

    #[test]
    fn a_denial_carries_its_code_and_the_sentence() {
        let config = Config::default();
        let mut bad = service("hello");
        bad["spec"]["template"]["spec"]["timeoutSeconds"] = json!(-1);
        let answer = answer(&asked(&bad), |request| admission::validate(request, &config)).unwrap();
        let status = &answer["response"]["status"];
        assert_eq!(answer["response"]["allowed"], false);
        assert_eq!(status["code"], 400);
        let message = status["message"].as_str().unwrap();
        assert!(message.starts_with("validation failed: "), "{message}");
    }

    #[test]
    fn a_connect_is_allowed_and_an_invalid_review_is_explained() {
        let config = Config::default();
        let connect = json!({"request": {
            "uid": "8", "operation": "CONNECT",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
        }});
        let decide = |request: &Request<'_>| admission::validate(request, &config);
        let said = answer(connect.to_string().as_bytes(), decide).unwrap();
        assert_eq!(said["response"], json!({"allowed": true, "uid": "8"}));
        let error = answer(b"{}", decide).unwrap_err();
        assert!(error.starts_with("the body is not an AdmissionReview"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let config = Config::default();
            drop(answer(&body, |request| admission::mutate(request, &config)));
        }
    }
}
