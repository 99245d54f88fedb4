//! The `scale` subresource: the number of replicas of a Deployment as an `autoscaling/v1 Scale`.

use http::{Method, Response};
use serde_json::{Value, json};

use super::Call;
use super::update::Stored;
use crate::failure::{Cause, RequestFailure, Subject};
use crate::media;
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
                self.write_scale(&mut |_, _| Ok(scale.clone()))
            }
            Method::PATCH => {
                let (kind, document) = self.read_patch()?.into_parts();
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
        let value = match stored {
            Stored::Object(object) => object.value(),
            Stored::Unstored(value) => value,
        };
        Ok(reply::value(&scale_of(&value)))
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

fn scale_of(deployment: &Value) -> Value {
    let metadata = &deployment["metadata"];
    let labels = deployment["spec"]["selector"]["matchLabels"].as_object();
    let terms = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let replicas = |part: &str| deployment[part]["replicas"].as_i64().unwrap_or(0);
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
        "spec": { "replicas": replicas("spec") },
        "status": {
            "replicas": replicas("status"),
            "selector": terms.collect::<Vec<_>>().join(","),
        },
    })
}
