//! `TokenReview`: tells a process that was shown a token whose token it is.
//!
//! Nothing is kept: the question is a POST, and the answer is the question with a status.

use serde_json::{Value, json};

use crate::authentication::{Identity, Tokens};
use crate::failure::RequestFailure;

/// Group and version of the question.
pub(super) const API_VERSION: &str = "authentication.k8s.io/v1";
/// The audience of a token that names none: this server, by the default name of kube-apiserver.
const OWN_AUDIENCE: &str = "https://kubernetes.default.svc";

/// The TokenReview in `question`, with its status.
pub(super) fn review(tokens: &Tokens, question: &[u8]) -> Result<Value, RequestFailure> {
    let mut review: Value = serde_json::from_slice(question)
        .map_err(|error| RequestFailure::bad_request(format!("the body is not JSON: {error}")))?;
    if review["apiVersion"] != API_VERSION || review["kind"] != "TokenReview" {
        return Err(RequestFailure::bad_request(format!(
            "the body is no TokenReview of {API_VERSION}"
        )));
    }
    let Some(token) = review["spec"]["token"].as_str().filter(|token| !token.is_empty()) else {
        return Err(RequestFailure::bad_request("spec.token is required".to_owned()));
    };
    let asked: Vec<&str> = match review["spec"]["audiences"].as_array() {
        Some(audiences) if !audiences.is_empty() => {
            audiences.iter().filter_map(Value::as_str).collect()
        }
        _ => vec![OWN_AUDIENCE],
    };
    review["status"] = status(tokens.find(token), &asked);
    Ok(review)
}

/// The status: the identity of a token, if it is meant for one of the audiences `asked` for.
fn status(identity: Option<&Identity>, asked: &[&str]) -> Value {
    let Some(identity) = identity else {
        return json!({"authenticated": false, "user": {}});
    };
    let is_meant_for = |audience: &&&str| match identity.audiences.as_slice() {
        [] => **audience == OWN_AUDIENCE,
        named => named.iter().any(|named| named == **audience),
    };
    let audiences: Vec<_> = asked.iter().filter(is_meant_for).collect();
    if audiences.is_empty() {
        return json!({
            "authenticated": false, "user": {},
            "error": "the token is meant for other audiences",
        });
    }
    let Identity { name, groups, extra, .. } = identity;
    json!({
        "authenticated": true, "audiences": audiences,
        "user": {"username": name, "groups": groups, "extra": extra},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let pod = Identity {
            groups: vec!["system:serviceaccounts".into()],
            extra: [("pod-name".to_owned(), vec!["one".to_owned()])].into(),
            audiences: vec!["us".into(), "them".into()],
            ..Identity::user("account")
        };
        Tokens::default().with("admins", Identity::user("admin")).with("pods", pod)
    }

    fn asked(spec: &Value) -> Result<Value, RequestFailure> {
        let question = json!({"apiVersion": API_VERSION, "kind": "TokenReview", "spec": spec});
        review(&tokens(), question.to_string().as_bytes()).map(|answer| answer["status"].clone())
    }

    #[test]
    fn a_token_is_confirmed_to_its_audience() {
        let status = asked(&json!({"token": "pods", "audiences": ["you", "us"]})).unwrap();
        let user = json!({
            "username": "account", "groups": ["system:serviceaccounts"],
            "extra": {"pod-name": ["one"]},
        });
        let whole = json!({"authenticated": true, "audiences": ["us"], "user": user});
        assert_eq!(status, whole);
        let status = asked(&json!({"token": "admins"})).unwrap();
        assert_eq!(status["user"]["username"], "admin");
        assert_eq!(status["audiences"], json!([OWN_AUDIENCE]));
    }

    #[test]
    fn other_audiences_and_unknown_tokens_are_unauthenticated() {
        for spec in [
            json!({"token": "other"}),
            json!({"token": "pods"}),
            json!({"token": "pods", "audiences": ["you"]}),
            json!({"token": "admins", "audiences": ["us"]}),
        ] {
            let status = asked(&spec).unwrap();
            assert_eq!((&status["authenticated"], &status["user"]), (&json!(false), &json!({})));
        }
        for spec in [json!({}), json!({"token": ""}), json!({"token": 7}), json!(null)] {
            assert_eq!(asked(&spec).unwrap_err().code, 400, "{spec}");
        }
        assert_eq!(review(&tokens(), b"{}").unwrap_err().code, 400);
        assert_eq!(review(&tokens(), b"nonsense").unwrap_err().code, 400);
    }
}
