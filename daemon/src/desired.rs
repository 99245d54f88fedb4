//! The one write that scales: a Revision's `desiredReplicas`, from what they are known to be to
//! what they shall be.
//!
//! It is a compare-and-swap in the API server. Whoever decided by a number that is no longer there
//! (a leader that was deposed, an activator beside another) changes nothing.

use ebb_api::report::RevisionKey;
use ebb_api::serving::Revision;
use http::Request;
use kube::{Client, Error, Resource as _};
use serde_json::{Value, json};

/// A change of one Revision's scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap<'a> {
    /// The Revision.
    pub key: &'a RevisionKey,
    /// Its UID: one that was made anew under the name is left alone.
    pub uid: &'a str,
    /// The replicas that its status must ask for now; nothing if it need not ask for any yet.
    pub from: Option<u32>,
    /// The replicas to ask for.
    pub to: u32,
}

impl Swap<'_> {
    /// Writes it, recorded under the name of `manager`.
    ///
    /// # Errors
    ///
    /// Those of the client; see [`is_refused`] for a number that is no longer there.
    pub async fn write(&self, client: &Client, manager: &str) -> Result<(), Error> {
        let namespace = Some(self.key.namespace.as_str());
        let collection = Revision::url_path(&(), namespace);
        let path = format!("{collection}/{}/status?fieldManager={manager}", self.key.name);
        let (media, body) = self.patch();
        let request = Request::patch(path)
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::CONTENT_TYPE, media)
            .body(body.to_string().into_bytes())
            .map_err(Error::HttpError)?;
        // The answer is of no interest, and may be as large as the object.
        client.request_text(request).await.map(drop)
    }

    /// The patch and its media type.
    fn patch(&self) -> (&'static str, Value) {
        let replicas = |scale: u32| i32::try_from(scale).unwrap_or(i32::MAX);
        let to = replicas(self.to);
        match self.from {
            Some(from) => (
                "application/json-patch+json",
                json!([
                    {"op": "test", "path": "/metadata/uid", "value": self.uid},
                    {"op": "test", "path": "/status/desiredReplicas", "value": replicas(from)},
                    {"op": "replace", "path": "/status/desiredReplicas", "value": to},
                ]),
            ),
            // There may be no status to test. The UID is a precondition here, too.
            None => (
                "application/merge-patch+json",
                json!({"metadata": {"uid": self.uid}, "status": {"desiredReplicas": to}}),
            ),
        }
    }
}

/// Whether the API server refused a change because what it starts from is no longer there.
pub fn is_refused(error: &Error) -> bool {
    matches!(error, Error::Api(status) if matches!(status.code, 409 | 412 | 422))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S2: what an earlier leader decided by must still be there.
    #[test]
    fn a_change_starts_from_what_is_known() {
        let key = RevisionKey::new("models", "digits-00001");
        let swap = Swap { key: &key, uid: "u", from: Some(5), to: 3 };
        let (media, patch) = swap.patch();
        assert_eq!(media, "application/json-patch+json");
        assert_eq!(patch[0]["value"], "u");
        assert_eq!((&patch[1]["op"], &patch[1]["value"]), (&json!("test"), &json!(5)));
        assert_eq!((&patch[2]["op"], &patch[2]["value"]), (&json!("replace"), &json!(3)));
        let (media, patch) = Swap { from: None, ..swap }.patch();
        assert_eq!(media, "application/merge-patch+json");
        assert_eq!(patch["status"]["desiredReplicas"], 3);
        assert_eq!(patch["metadata"]["uid"], "u");
    }
}
