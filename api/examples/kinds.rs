//! Prints the schemas of Kubernetes' kinds that the embedded API serves, by the names of their types
//! in Kubernetes' OpenAPI document. `make generate` writes them to apiserver/kinds.json.

use std::io::Write as _;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Namespace, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::events::v1::Event as EventsEvent;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Types refer to each other by name instead of being written out: a pod spec is large.
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    register::<ObjectMeta>(&mut generator);
    register::<Pod>(&mut generator);
    register::<Service>(&mut generator);
    register::<ConfigMap>(&mut generator);
    register::<Secret>(&mut generator);
    register::<Event>(&mut generator);
    register::<ServiceAccount>(&mut generator);
    register::<Namespace>(&mut generator);
    register::<Deployment>(&mut generator);
    register::<Lease>(&mut generator);
    register::<EventsEvent>(&mut generator);
    register::<CustomResourceDefinition>(&mut generator);
    // One line a type, so that a changed type is one line in a diff.
    let mut lines: Vec<String> = Vec::new();
    for (name, schema) in generator.take_definitions(false) {
        lines.push(format!("{}:{schema}", serde_json::to_string(&name)?));
    }
    writeln!(std::io::stdout().lock(), "{{\n{}\n}}", lines.join(",\n"))?;
    Ok(())
}

fn register<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}
