//! `POST`: new objects.

use http::Response;
use serde_json::Value;

use super::update::named_in;
use super::{Call, WRITE_ATTEMPTS_MAX};
use crate::admission::AdmissionOperation;
use crate::failure::RequestFailure;
use crate::media;
use crate::metadata;
use crate::reply::{self, ReplyBody};
use crate::resources::completion;
use crate::store::StoreError;
use crate::strict::Decoded;

impl Call<'_> {
    pub(super) fn create(&mut self) -> Result<Response<ReplyBody>, RequestFailure> {
        let Decoded { mut value, duplicates } = media::decode(&self.headers, &self.body)?;
        self.check_identity(&mut value)?;
        self.conform(&mut value, duplicates, Self::undecodable)?;
        metadata::of(&mut value).remove("managedFields");
        self.is_versioned = named_in(&value, "resourceVersion").is_some();
        self.create_decoded(&value, true)
    }

    /// Creates the object of a decoded body or of a server-side apply. Only the fields of the
    /// former have still to be `tracked` in managedFields.
    pub(super) fn create_decoded(
        &mut self,
        template: &Value,
        tracked: bool,
    ) -> Result<Response<ReplyBody>, RequestFailure> {
        let generated = template["metadata"]["name"].as_str().is_none_or(str::is_empty);
        for attempt in 1.. {
            let mut value = template.clone();
            let name = metadata::name(&mut value, &self.target.resource)?;
            self.target.name = Some(name);
            metadata::begin(&mut value, &self.target.resource, self.now);
            if self.target.resource.has_status && !self.is_namespace() {
                value.as_object_mut().map(|fields| fields.remove("status"));
                if let Some(status) = completion::first_status(&self.target.resource, &value) {
                    value["status"] = status;
                }
            }
            let mut value = self.mutate(AdmissionOperation::Create, None, value)?;
            if tracked {
                self.track(None, &mut value);
            }
            self.validate(AdmissionOperation::Create, None, &value)?;
            if self.is_versioned {
                return Err(RequestFailure::bad_request(
                    "resourceVersion should not be set on objects to be created",
                ));
            }
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

    /// For a dry run: the checks that the store makes at a creation.
    fn check_creatable(&self) -> Result<(), RequestFailure> {
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
}
