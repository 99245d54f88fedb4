//! The one write that scales: a Revision's `desiredReplicas`, from the number last known to a new
//! one.
//!
//! It is a compare-and-swap in the API server. A writer that decided by an outdated number (a
//! leader that was deposed, an activator beside another) changes nothing. The API server's answer
//! is newer than what a watch told so far, and may stay so for a while.

use ebb_api::report::RevisionKey;
use ebb_api::resource_version::ResourceVersion;
use ebb_api::serving::Revision;
use http::Request;
use kube::{Client, Error, Resource as _};
use serde_json::{Value, json};

/// A change of one Revision's scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap<'a> {
    /// The Revision.
    pub key: &'a RevisionKey,
    /// Its UID: a Revision that was made anew under the name is left alone.
    pub uid: &'a str,
    /// The state that the Revision must be in for the change to be made.
    pub from: Before,
    /// The replicas to ask for.
    pub to: u32,
}

/// The state that a change starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// So many replicas are asked for.
    Replicas(u32),
    /// No number was ever asked for, in this version of the Revision. There may be no status to
    /// test, so any change of the object counts as a change of the number.
    Unsaid(u64),
}

/// A Revision as it was at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its version; 0, which comes before all others and is no object's version, if it has no
    /// readable one.
    pub version: u64,
    /// The replicas that its status asks for.
    pub replicas: Option<u32>,
}

impl Swap<'_> {
    /// Writes the change, with `manager` as field manager, and returns the Revision after it.
    ///
    /// # Errors
    ///
    /// Those of the client; see [`is_refused`] for a change that starts from an outdated number.
    pub async fn write(&self, client: &Client, manager: &str) -> Result<Seen, Error> {
        let namespace = Some(self.key.namespace.as_str());
        let collection = Revision::url_path(&(), namespace);
        let path = format!("{collection}/{}/status?fieldManager={manager}", self.key.name);
        let (media, body) = self.patch();
        let request = Request::patch(path)
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::CONTENT_TYPE, media)
            .body(body.to_string().into_bytes())
            .map_err(Error::HttpError)?;
        let answer = client.request_text(request).await?;
        // It is written, whether or not the answer can be read.
        Ok(serde_json::from_str(&answer).map(|revision| Seen::of(&revision)).unwrap_or_default())
    }

    /// The patch and its media type.
    fn patch(&self) -> (&'static str, Value) {
        let replicas = |scale: u32| i32::try_from(scale).unwrap_or(i32::MAX);
        let to = replicas(self.to);
        match self.from {
            Before::Replicas(from) => (
                "application/json-patch+json",
                json!([
                    {"op": "test", "path": "/metadata/uid", "value": self.uid},
                    {"op": "test", "path": "/status/desiredReplicas", "value": replicas(from)},
                    {"op": "replace", "path": "/status/desiredReplicas", "value": to},
                ]),
            ),
            // In a merge patch the UID and the version are preconditions, too.
            Before::Unsaid(version) => (
                "application/merge-patch+json",
                json!({
                    "metadata": {"uid": self.uid, "resourceVersion": version.to_string()},
                    "status": {"desiredReplicas": to},
                }),
            ),
        }
    }
}

// === impl Seen ===

impl Seen {
    /// The Revision as it is in this object.
    pub fn of(revision: &Revision) -> Self {
        let replicas = revision.status.as_ref().and_then(|status| status.desired_replicas);
        Self {
            version: ResourceVersion::of(&revision.metadata).number().unwrap_or(0),
            replicas: replicas.and_then(|replicas| replicas.try_into().ok()),
        }
    }
}

/// Whether the API server refused a change because it starts from an outdated state.
pub fn is_refused(error: &Error) -> bool {
    matches!(error, Error::Api(status) if matches!(status.code, 409 | 412 | 422))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number that an earlier leader decided by must still be there.
    #[test]
    fn a_change_starts_from_what_is_known() {
        let key = RevisionKey::new("models", "digits-00001");
        let swap = Swap { key: &key, uid: "u", from: Before::Replicas(5), to: 3 };
        let (media, patch) = swap.patch();
        assert_eq!(media, "application/json-patch+json");
        assert_eq!(patch[0]["value"], "u");
        assert_eq!((&patch[1]["op"], &patch[1]["value"]), (&json!("test"), &json!(5)));
        assert_eq!((&patch[2]["op"], &patch[2]["value"]), (&json!("replace"), &json!(3)));
        let (media, patch) = Swap { from: Before::Unsaid(17), ..swap }.patch();
        assert_eq!(media, "application/merge-patch+json");
        assert_eq!(patch["status"]["desiredReplicas"], 3);
        assert_eq!(patch["metadata"], json!({"uid": "u", "resourceVersion": "17"}));
    }
}
