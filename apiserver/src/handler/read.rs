//! `GET`: an object, a list, the output of a pod.

use http::Response;

use super::Call;
use crate::failure::RequestFailure;
use crate::reply::{self, ReplyBody};
use crate::request::collection_of;
use crate::selector::Selector;
use crate::store::Page;

use futures::StreamExt as _;

/// Field paths, beside name and namespace, that kinds may be selected by.
const EVENT_FIELDS: &[&str] = &[
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
const POD_FIELDS: &[&str] = &[
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.nominatedNodeName",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];

impl Call<'_> {
    pub(super) fn read(&self) -> Result<Response<ReplyBody>, RequestFailure> {
        let view = self.view()?;
        let object = self.current().ok_or_else(|| RequestFailure::not_found(self.subject()))?;
        Ok(reply::json(200, view.object(&object, self.now)))
    }

    pub(super) fn list(&self) -> Result<Response<ReplyBody>, RequestFailure> {
        let view = self.view()?;
        Ok(reply::json(200, view.page(&self.page()?, self.now)))
    }

    /// The objects that a list or a deletion of a collection is about. A later page shows the
    /// state of its own time: objects are immutable, but no old list is kept for a slow reader.
    pub(super) fn page(&self) -> Result<Page, RequestFailure> {
        let after = self.query.continue_token.as_deref();
        let limit = self.query.limit.unwrap_or(usize::MAX);
        let collection = self.target.collection();
        let namespace = self.target.namespace.as_deref();
        let selector = self.selector()?;
        Ok(self.shared.store.list(&collection, namespace, &selector, (after, limit)))
    }

    /// Checks the options that say which version a list or watch may begin with.
    fn check_version_match(&self) -> Result<(), RequestFailure> {
        let query = &self.query;
        let (found, initial) = (query.version_match.as_deref(), query.initial_events);
        let forbidden = match (found, query.watch) {
            (_, false) if initial.is_some() => Some("sendInitialEvents is forbidden for list"),
            (None, _) if initial.is_some() => {
                Some("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
            }
            (Some(_), true) if initial.is_none() => Some(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ),
            (Some(_), false) if query.resource_version.is_none() => {
                Some("resourceVersionMatch is forbidden unless resourceVersion is provided")
            }
            (Some(_), false) if query.continue_token.is_some() => {
                Some("resourceVersionMatch is forbidden when continue is provided")
            }
            (None | Some("NotOlderThan"), _) | (Some("Exact"), false) => None,
            (Some(found), _) => {
                let message = format!(
                    "Unsupported value: {found:?}: supported values: \"\", \"Exact\", \"NotOlderThan\""
                );
                let (field, reason) = ("resourceVersionMatch", "FieldValueNotSupported");
                return Err(RequestFailure::invalid_option("ListOptions", field, reason, &message));
            }
        };
        let Some(what) = forbidden else { return Ok(()) };
        let is_about_events = what.starts_with("sendInitialEvents is");
        let field = if is_about_events { "sendInitialEvents" } else { "resourceVersionMatch" };
        let (reason, message) = ("FieldValueForbidden", format!("Forbidden: {what}"));
        Err(RequestFailure::invalid_option("ListOptions", field, reason, &message))
    }

    /// The selector of a list or a watch, whose options are checked in the order of the real server.
    pub(super) fn selector(&self) -> Result<Selector, RequestFailure> {
        // The store knows these collections too: see `SELECTED_BY_CONTENT`.
        let selectable = match collection_of(&self.target.resource).as_str() {
            "events" => EVENT_FIELDS,
            "pods" => POD_FIELDS,
            "namespaces" => &["status.phase"],
            "secrets" => &["type"],
            "services" => &["spec.clusterIP", "spec.type"],
            // No more than the others, but the real server says so in other words.
            _ if self.target.resource.custom => &["metadata.name"],
            _ => &[],
        };
        let (labels, fields) = (&self.query.label_selector, &self.query.field_selector);
        let selector = Selector::parse(labels.as_deref(), fields.as_deref())?;
        self.check_version_match()?;
        selector.among(selectable)
    }

    pub(super) fn read_log(&self) -> Result<Response<ReplyBody>, RequestFailure> {
        let pod = self.current().ok_or_else(|| RequestFailure::not_found(self.subject()))?;
        let permit = self.stream_permit()?;
        let options = self.query.log.clone();
        let lines = self.shared.logs.open(pod.namespace(), pod.name(), options)?;
        Ok(reply::text_stream(lines.map(move |chunk| {
            // Held for as long as the stream lives.
            let _ = &permit;
            chunk
        })))
    }
}
