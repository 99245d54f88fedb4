//! Checks that a body is of the kind, namespace and name that the path says.

use serde_json::Value;

use super::Call;
use crate::failure::{Cause, RequestFailure};
use crate::metadata;
use crate::request::is_events_v1;
use crate::resources;

impl Call<'_> {
    /// Checks the identity of a body, and fills in what it leaves out. Events come out in their
    /// stored form.
    pub(super) fn check_identity(&self, value: &mut Value) -> Result<(), RequestFailure> {
        self.check_kind(value)?;
        self.check_place(value)?;
        self.identify(value);
        Ok(())
    }

    /// Fills in which object a body is of, in its stored form.
    pub(super) fn identify(&self, value: &mut Value) {
        let resource = &self.target.resource;
        value["apiVersion"] = Value::from(resource.api_version());
        value["kind"] = Value::from(resource.kind.as_str());
        if is_events_v1(resource) {
            *value = resources::event_from_events_v1(value);
        }
        let fields = metadata::of(value);
        for (key, own) in [("namespace", &self.target.namespace), ("name", &self.target.name)] {
            match own {
                Some(own) => {
                    fields.insert(key.into(), Value::from(own.as_str()));
                }
                None if key == "namespace" => {
                    fields.remove(key);
                }
                None => {}
            }
        }
    }

    /// Checks the kind and its version. Only a built-in kind may be left out.
    pub(super) fn check_kind(&self, value: &Value) -> Result<(), RequestFailure> {
        if !value.is_object() {
            return Err(RequestFailure::bad_request("the body of the request is not an object"));
        }
        let resource = &self.target.resource;
        let (kind, version) = (resource.kind.as_str(), resource.api_version());
        let text = |key: &str| value[key].as_str().unwrap_or_default();
        let (found_kind, found_version) = (text("kind"), text("apiVersion"));
        if !resource.custom {
            let is = |found: &str, own: &str| found.is_empty() || found == own;
            if is(found_kind, kind) && is(found_version, &version) {
                return Ok(());
            }
            let or_own = |found: &str, own: &str| {
                if found.is_empty() { own.to_owned() } else { found.to_owned() }
            };
            let (found_kind, found_version) =
                (or_own(found_kind, kind), or_own(found_version, &version));
            return Err(RequestFailure::bad_request(format!(
                "{found_kind} in version {found_version:?} cannot be handled as a {kind}: no kind \
                 {found_kind:?} is registered for version {found_version:?}"
            )));
        }
        if found_kind.is_empty() || found_version.is_empty() {
            let missing = if found_kind.is_empty() { "Kind" } else { "apiVersion" };
            return Err(RequestFailure::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): Object '{missing}' \
                 is missing"
            )));
        }
        if found_version != version {
            return Err(RequestFailure::bad_request(format!(
                "the API version in the data ({found_version}) does not match the expected API \
                 version ({version})"
            )));
        }
        if found_kind == kind {
            return Ok(());
        }
        let cause = Cause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {found_kind:?}: must be {kind}"),
            field: "kind".into(),
        };
        let mut subject = self.subject_by_kind();
        found_kind.clone_into(&mut subject.kind);
        if subject.name.is_empty() {
            let name = value["metadata"]["name"].as_str().unwrap_or_default();
            name.clone_into(&mut subject.name);
        }
        Err(RequestFailure::invalid(subject, vec![cause]))
    }

    /// Checks the namespace and the name, as far as they are given.
    pub(super) fn check_place(&self, value: &Value) -> Result<(), RequestFailure> {
        let found = |key: &str| value["metadata"][key].as_str().filter(|text| !text.is_empty());
        let own = self.target.namespace.as_deref();
        if own.is_some() && found("namespace").is_some_and(|found| Some(found) != own) {
            return Err(RequestFailure::bad_request(
                "the namespace of the provided object does not match the namespace sent on the \
                 request",
            ));
        }
        match (found("name"), self.target.name.as_deref()) {
            (Some(found), Some(own)) if found != own => Err(RequestFailure::bad_request(format!(
                "the name of the object ({found}) does not match the name on the URL ({own})"
            ))),
            _ => Ok(()),
        }
    }

    /// Checks that a body says which object it is.
    pub(super) fn check_named(&self, value: &Value) -> Result<(), RequestFailure> {
        if value["metadata"]["name"].as_str().is_some_and(|name| !name.is_empty()) {
            return Ok(());
        }
        Err(RequestFailure::bad_request(format!(
            "the name of the object ({} based on URL) was undeterminable: name must be provided",
            self.target.name()
        )))
    }
}
