//! `GET ...?watch`: a stream of changes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::Stream;
use http::Response;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::{Call, Clock};
use crate::failure::RequestFailure;
use crate::media::Shape;
use crate::object::Object;
use crate::reply::{self, ReplyBody};
use crate::selector::Selector;
use crate::store::{ChangeKind, CollectionWatch, Expired, ObjectChange, WatchStart};
use crate::view::View;

/// How often a watch is told the current revision, so that its client can go on from there after a
/// disconnection. Kubernetes' own value.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// Longest watch, also when the client names no limit: Kubernetes' upper bound.
const WATCH_MAX: Duration = Duration::from_hours(1);

/// The state of one watch's stream.
struct Feed {
    watch: CollectionWatch,
    /// Changes to send before any that the watch will bring.
    initial: Option<Vec<ObjectChange>>,
    /// Whether to mark the end of the initial changes.
    mark_initial: bool,
    namespace: Option<String>,
    name: Option<String>,
    selector: Selector,
    view: View,
    clock: Clock,
    bookmarks: bool,
    bookmark_at: Instant,
    ends_at: Instant,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Call<'_> {
    pub(super) fn watch(&self) -> Result<Response<ReplyBody>, RequestFailure> {
        let selector = self.selector()?;
        let view = self.view()?;
        let permit = self.stream_permit()?;
        let (initial, watch) = match self.open_watch() {
            Ok(opened) => opened,
            // Not a failure of the request: clients look for this in the stream, and some that get
            // it as the response's status ask for the same version again and again.
            Err(expired) => {
                let event = expiry(expired).freeze();
                return Ok(reply::json_stream(futures::stream::iter([event])));
            }
        };
        let limit = self.query.timeout_s.map_or(WATCH_MAX, Duration::from_secs);
        let feed = Feed {
            watch,
            mark_initial: self.query.initial_events == Some(true),
            initial: Some(initial),
            namespace: self.target.namespace.clone(),
            name: self.target.name.clone(),
            selector,
            view,
            clock: Arc::clone(&self.shared.clock),
            bookmarks: self.query.bookmarks,
            bookmark_at: Instant::now() + BOOKMARK_EVERY,
            ends_at: Instant::now() + limit.min(WATCH_MAX),
            over: false,
            _permit: permit,
        };
        Ok(reply::json_stream(feed.into_stream()))
    }

    fn open_watch(&self) -> Result<(Vec<ObjectChange>, CollectionWatch), Expired> {
        let collection = self.target.collection();
        let store = &self.shared.store;
        let revision = self.query.resource_version.filter(|revision| *revision > 0);
        match (self.query.initial_events, revision) {
            (Some(true), _) | (None, None) => CollectionWatch::initial(store, &collection),
            (Some(false), None) => Ok((Vec::new(), store.watch(&collection, WatchStart::Now)?)),
            (_, Some(revision)) => {
                let start = WatchStart::After(revision);
                Ok((Vec::new(), store.watch(&collection, start)?))
            }
        }
    }

    /// A permit for a response that goes on for long.
    pub(super) fn stream_permit(&self) -> Result<OwnedSemaphorePermit, RequestFailure> {
        let permit = Arc::clone(&self.shared.streams).try_acquire_owned();
        permit.map_err(|_| {
            RequestFailure::too_many(
                "too many watches and followed logs are open at once: end some of them",
            )
        })
    }
}

// === impl Feed ===

impl Feed {
    fn into_stream(self) -> impl Stream<Item = Bytes> + Send {
        futures::stream::unfold(self, |mut feed| async move {
            let chunk = feed.next().await?;
            Some((chunk, feed))
        })
    }

    /// The next events, a line each; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if let Some(initial) = self.initial.take() {
            let mut chunk = self.encode(&initial);
            if self.mark_initial {
                self.put_bookmark(&mut chunk, true);
            }
            // Without a first chunk the headers still go out at once.
            if !chunk.is_empty() {
                return Some(chunk.freeze());
            }
        }
        loop {
            let chunk = tokio::select! {
                biased;
                () = sleep_until(self.ends_at) => return None,
                // Whatever was sent meanwhile, and before any change: a watch that selects few of
                // many changes would otherwise never be told how far it has come.
                () = sleep_until(self.bookmark_at), if self.bookmarks => {
                    self.bookmark_at = Instant::now() + BOOKMARK_EVERY;
                    let mut chunk = BytesMut::new();
                    self.put_bookmark(&mut chunk, false);
                    chunk
                }
                changes = self.watch.next() => match changes {
                    Ok(changes) => self.encode(&changes),
                    Err(expired) => {
                        self.over = true;
                        expiry(expired)
                    }
                },
            };
            if !chunk.is_empty() {
                return Some(chunk.freeze());
            }
        }
    }

    fn encode(&mut self, changes: &[ObjectChange]) -> BytesMut {
        let mut chunk = BytesMut::new();
        let now = (self.clock)();
        for change in changes {
            let is = self.selects(&change.object);
            let was = change.before.as_ref().is_some_and(|before| self.selects(before));
            // To this watch an object that enters its selection is new, one that leaves is gone.
            let kind = match (change.kind, was, is) {
                (ChangeKind::Added, _, true) | (ChangeKind::Modified, false, true) => "ADDED",
                (ChangeKind::Modified, true, true) => "MODIFIED",
                (ChangeKind::Deleted | ChangeKind::Modified, true, _) => "DELETED",
                _ => continue,
            };
            let shown = match &change.before {
                // As the client knows it, at the version that took it away.
                Some(before) if kind == "DELETED" && !is => {
                    let mut value = before.value();
                    let revision = change.object.revision().to_string();
                    value["metadata"]["resourceVersion"] = Value::from(revision);
                    self.view.unstored(value, now)
                }
                _ => self.view.object(&change.object, now),
            };
            put_event(&mut chunk, kind, &shown);
            // The first table says it for all.
            self.view.has_columns = false;
        }
        chunk
    }

    fn selects(&self, object: &Object) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == object.namespace())
            && self.name.as_deref().is_none_or(|own| own == object.name())
            && self.selector.matches(object)
    }

    fn put_bookmark(&self, chunk: &mut BytesMut, ends_initial: bool) {
        let revision = self.watch.revision().to_string();
        let mut metadata = json!({ "resourceVersion": revision, "creationTimestamp": null });
        if ends_initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let (kind, api_version) = match self.view.shape {
            Shape::Metadata => ("PartialObjectMetadata".into(), "meta.k8s.io/v1".into()),
            Shape::Whole | Shape::Table => {
                let resource = &self.view.resource;
                (resource.kind.clone(), resource.api_version())
            }
        };
        let object: Value = json!({
            "kind": kind, "apiVersion": api_version, "metadata": metadata,
        });
        let object = match self.view.shape {
            Shape::Table => Bytes::from(
                json!({
                    "kind": "Table", "apiVersion": "meta.k8s.io/v1",
                    "metadata": { "resourceVersion": revision },
                    "columnDefinitions": [],
                    "rows": [{ "cells": [], "object": object }],
                })
                .to_string(),
            ),
            Shape::Whole | Shape::Metadata => Bytes::from(object.to_string()),
        };
        put_event(chunk, "BOOKMARK", &object);
    }
}

/// The event that ends a watch which the log has moved past: the client lists again.
fn expiry(Expired { asked, oldest }: Expired) -> BytesMut {
    let status = RequestFailure::expired(oldest, asked).status().to_string();
    let mut chunk = BytesMut::new();
    put_event(&mut chunk, "ERROR", status.as_bytes());
    chunk
}

fn put_event(chunk: &mut BytesMut, kind: &str, object: &[u8]) {
    chunk.reserve(object.len() + 32);
    chunk.put_slice(b"{\"type\":\"");
    chunk.put_slice(kind.as_bytes());
    chunk.put_slice(b"\",\"object\":");
    chunk.put_slice(object);
    chunk.put_slice(b"}\n");
}
