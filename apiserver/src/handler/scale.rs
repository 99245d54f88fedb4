//! The `scale` subresource: the number of replicas of a Deployment as an `autoscaling/v1 Scale`.

use http::{Method, Response};
use serde_json::{Value, json};

use super::Call;
use super::apply::check_type;
use super::update::Stored;
use crate::failure::{Cause, RequestFailure, Subject};
use crate::media::{self, PatchKind};
use crate::reply::{self, ReplyBody};

impl Call<'_> {
    pub(super) fn serve_scale(
        &mut self,
        method: &Method,
    ) -> Result<Response<ReplyBody>, RequestFailure> {
        match *method {
            Method::GET => {
                let object =
                    self.current().ok_or_else(|| RequestFailure::not_found(self.subject()))?;
                Ok(reply::value(&scale_of(&object.value())))
            }
            Method::PUT => {
                let scale = media::decode(&self.headers, &self.body)?.value;
                self.check_named(&scale)?;
                self.check_place(&scale)?;
                check_number(&scale)?;
                self.write_scale(&mut |_, _| Ok(scale.clone()))
            }
            Method::PATCH => {
                let (kind, document) = self.read_patch()?.into_parts();
                if kind == PatchKind::Apply {
                    return self.apply_scale(&document);
                }
                self.write_scale(&mut |call, scale| {
                    let mut scale = scale.clone();
                    call.patched(kind, &mut scale, &document)?;
                    Ok(scale)
                })
            }
            _ => Err(RequestFailure::method_not_allowed()),
        }
    }

    fn write_scale(
        &mut self,
        next: &mut dyn FnMut(&mut Self, &Value) -> Result<Value, RequestFailure>,
    ) -> Result<Response<ReplyBody>, RequestFailure> {
        let stored = self.store_next(&mut |call, old| {
            let scale = next(call, &scale_of(old))?;
            let replicas = call.replicas(&scale)?;
            let mut value = old.clone();
            value["spec"]["replicas"] = replicas;
            let version = &scale["metadata"]["resourceVersion"];
            if version.as_str().is_some_and(|version| !version.is_empty()) {
                value["metadata"]["resourceVersion"] = version.clone();
            }
            Ok(value)
        })?;
        Ok(shown(stored))
    }

    /// Applies a number of replicas: the only field of a scale that anybody can own.
    fn apply_scale(&mut self, document: &Value) -> Result<Response<ReplyBody>, RequestFailure> {
        self.check_applier()?;
        check_type(document, "autoscaling/v1", "Scale")?;
        check_number(document)?;
        let resource = &self.target.resource;
        let mut applied = json!({
            "apiVersion": resource.api_version(), "kind": resource.kind,
            "metadata": { "name": self.target.name(), "namespace": self.target.namespace() },
        });
        let given = document["spec"].get("replicas");
        if let Some(given) = given {
            applied["spec"] = json!({ "replicas": given.as_i64().unwrap_or(0) });
        }
        let stored = self.store_next(&mut |call, old| {
            let mut value = call.applied(Some(old), &applied)?;
            call.check_place(document)?;
            call.check_preconditions(old, document)?;
            given.map(|_| call.replicas(document)).transpose()?;
            // Not the default of a Deployment: what nobody applies any more is a scale without it.
            if value["spec"]["replicas"].is_null() {
                value["spec"]["replicas"] = Value::from(0);
            }
            Ok(value)
        })?;
        Ok(shown(stored))
    }

    fn replicas(&self, scale: &Value) -> Result<Value, RequestFailure> {
        let given = &scale["spec"]["replicas"];
        // An absent number is zero: clients omit the field when it is zero.
        let replicas = if given.is_null() { Some(0) } else { given.as_i64() };
        let in_range = |replicas: &i64| (0..=i64::from(i32::MAX)).contains(replicas);
        replicas.filter(in_range).map(Value::from).ok_or_else(|| {
            let cause = Cause {
                reason: "FieldValueInvalid".into(),
                message: format!("Invalid value: {given}: must be greater than or equal to 0"),
                field: "spec.replicas".into(),
            };
            RequestFailure::invalid(
                Subject::new("autoscaling", "Scale", self.target.name()),
                vec![cause],
            )
        })
    }
}

/// Refuses a number of replicas that cannot be read.
fn check_number(scale: &Value) -> Result<(), RequestFailure> {
    let given = &scale["spec"]["replicas"];
    if given.is_null() || given.as_i64().is_some_and(|own| i32::try_from(own).is_ok()) {
        return Ok(());
    }
    Err(RequestFailure::bad_request(format!(
        "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas: Invalid value: \
         {given}: must be a number of 32 bits"
    )))
}

fn shown(stored: Stored) -> Response<ReplyBody> {
    let value = match stored {
        Stored::Object(object) => object.value(),
        Stored::Unstored(value) => value,
    };
    reply::value(&scale_of(&value))
}

fn scale_of(deployment: &Value) -> Value {
    let metadata = &deployment["metadata"];
    let labels = deployment["spec"]["selector"]["matchLabels"].as_object();
    let terms = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let replicas = |part: &str| deployment[part]["replicas"].as_i64().unwrap_or(0);
    // Go leaves a zero out here, and not in the status.
    let wanted = replicas("spec");
    let spec = if wanted == 0 { json!({}) } else { json!({ "replicas": wanted }) };
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": spec,
        "status": {
            "replicas": replicas("status"),
            "selector": terms.collect::<Vec<_>>().join(","),
        },
    })
}
