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
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.phase",
    "status.podIP",
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

    pub(super) fn selector(&self) -> Result<Selector, RequestFailure> {
        // The store knows these collections too: see `SELECTED_BY_CONTENT`.
        let selectable = match collection_of(&self.target.resource).as_str() {
            "events" => EVENT_FIELDS,
            "pods" => POD_FIELDS,
            "namespaces" => &["status.phase"],
            _ => &[],
        };
        Selector::parse(
            self.query.label_selector.as_deref(),
            self.query.field_selector.as_deref(),
            selectable,
        )
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
