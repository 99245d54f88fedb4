//! `POST`: new objects.

use std::sync::Arc;

use http::Response;
use serde_json::Value;

use super::{Call, WRITE_ATTEMPTS_MAX};
use crate::admission::Operation;
use crate::apply::{self, Writer};
use crate::failure::Failure;
use crate::media::{self, Decoded};
use crate::metadata;
use crate::reply::{self, ReplyBody};
use crate::request::is_events_v1;
use crate::resources::{self, ResourceType};
use crate::schema::Schema;
use crate::store::StoreError;

impl Call<'_> {
    pub(super) fn create(&mut self) -> Result<Response<ReplyBody>, Failure> {
        let Decoded { mut value, duplicates } = media::decode(&self.headers, &self.body)?;
        self.check_identity(&mut value)?;
        self.conform(&mut value, duplicates, Self::strict_failure)?;
        let version = &value["metadata"]["resourceVersion"];
        if version.as_str().is_some_and(|version| !version.is_empty()) {
            return Err(Failure::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        metadata::of(&mut value).remove("managedFields");
        self.create_decoded(&value, true)
    }

    /// Creates the object of a decoded body or of a server-side apply, of which only the former
    /// has still to be `tracked` in managedFields.
    pub(super) fn create_decoded(
        &mut self,
        template: &Value,
        tracked: bool,
    ) -> Result<Response<ReplyBody>, Failure> {
        let generated = template["metadata"]["name"].as_str().is_none_or(str::is_empty);
        for attempt in 1.. {
            let mut value = template.clone();
            let name = metadata::name(&mut value, &self.target.resource)?;
            self.target.name = Some(name);
            metadata::begin(&mut value, &self.target.resource, self.now);
            if self.target.resource.has_status && !self.is_namespace() {
                value.as_object_mut().map(|fields| fields.remove("status"));
            }
            let mut value = self.mutate(Operation::Create, None, value)?;
            if tracked {
                self.track(None, &mut value);
            }
            self.validate(Operation::Create, None, &value)?;
            let view = self.view()?;
            if self.query.dry_run {
                self.check_creatable()?;
                return Ok(reply::json(201, view.unstored(value, self.now)));
            }
            match self.shared.store.create(&self.target.collection(), value) {
                Ok(object) => return Ok(reply::json(201, view.object(&object, self.now))),
                // The random end of a generated name may be taken.
                Err(StoreError::Exists) if generated && attempt < WRITE_ATTEMPTS_MAX => {}
                Err(error) => return Err(self.refused(error)),
            }
        }
        Err(self.refused(StoreError::Exists))
    }

    /// What would refuse the creation, for a dry run.
    fn check_creatable(&self) -> Result<(), Failure> {
        let store = &self.shared.store;
        let (namespace, name) = (self.target.namespace(), self.target.name());
        if !namespace.is_empty() {
            match store.get(crate::store::NAMESPACES, "", namespace) {
                None => return Err(self.refused(StoreError::NoNamespace)),
                Some(parent) if parent.deleting() => {
                    return Err(self.refused(StoreError::Terminating));
                }
                Some(_) => {}
            }
        }
        if store.get(&self.target.collection(), namespace, name).is_some() {
            return Err(self.refused(StoreError::Exists));
        }
        Ok(())
    }

    pub(super) fn is_namespace(&self) -> bool {
        let resource = &self.target.resource;
        resource.group.is_empty() && resource.plural == "namespaces"
    }

    /// The schema of what is stored: events.k8s.io/v1 Events are kept as core v1 ones.
    pub(super) fn schema(&self) -> Arc<Schema> {
        let resource = &self.target.resource;
        let stored = is_events_v1(resource).then(|| {
            let core = |own: &&Arc<ResourceType>| own.group.is_empty() && own.kind == "Event";
            self.shared.resources.iter().find(core)
        });
        Arc::clone(&stored.flatten().unwrap_or(resource).schema)
    }

    /// Records who wrote which field.
    pub(super) fn track(&self, old: Option<&Value>, value: &mut Value) {
        let manager = self.manager();
        let api_version = self.target.resource.api_version();
        let writer = Writer {
            manager: &manager,
            api_version: &api_version,
            subresource: self.target.subresource.map(crate::request::Subresource::as_str),
            now: self.now,
        };
        apply::track_update(&self.schema(), old, value, &writer);
    }

    /// Checks that a body is of the kind, namespace and name that the path says, and fills in
    /// what it leaves out. Events come out in their stored form.
    pub(super) fn check_identity(&self, value: &mut Value) -> Result<(), Failure> {
        if !value.is_object() {
            return Err(Failure::bad_request("the body of the request is not an object"));
        }
        let resource = &self.target.resource;
        let api_version = resource.api_version();
        for (key, expected) in [("apiVersion", &api_version), ("kind", &resource.kind)] {
            match value[key].as_str() {
                None | Some("") => value[key] = Value::from(expected.as_str()),
                Some(found) if found == expected => {}
                Some(found) => {
                    let what = if key == "kind" { "kind" } else { "API version" };
                    return Err(Failure::bad_request(format!(
                        "the {what} in the data ({found}) does not match the expected {what} \
                         ({expected})"
                    )));
                }
            }
        }
        if is_events_v1(resource) {
            *value = resources::event_from_events_v1(value);
        }
        let fields = metadata::of(value);
        let places = [("namespace", &self.target.namespace), ("name", &self.target.name)];
        for (key, expected) in places {
            let found = fields.get(key).and_then(Value::as_str).unwrap_or_default();
            match expected {
                Some(expected) if found.is_empty() => {
                    fields.insert(key.into(), Value::from(expected.as_str()));
                }
                Some(expected) if found != expected => {
                    return Err(Failure::bad_request(format!(
                        "the {key} of the provided object does not match the {key} sent on the \
                         request"
                    )));
                }
                None if key == "namespace" => {
                    fields.remove(key);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Kubernetes' words for a body that breaks strict decoding.
    pub(super) fn strict_failure(&self, faults: &str) -> Failure {
        let kind = &self.target.resource.kind;
        let version = self.target.resource.version.as_str();
        Failure::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding \
             error: {faults}"
        ))
    }
}
