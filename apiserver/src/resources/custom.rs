//! Custom kinds, from their CustomResourceDefinitions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use serde_json::Value;

use super::builtin::OBJECT_META;
use super::{ALL_VERBS, ResourceType};
use crate::schema::compile::Compiler;
use crate::table::column::Column;

pub(super) fn resources(
    compiler: &mut Compiler,
    definitions: &[CustomResourceDefinition],
) -> Vec<ResourceType> {
    let mut resources = Vec::new();
    for definition in definitions {
        for version in &definition.spec.versions {
            if version.served {
                resources.push(resource(compiler, definition, version));
            }
        }
    }
    resources
}

fn resource(
    compiler: &mut Compiler,
    definition: &CustomResourceDefinition,
    version: &CustomResourceDefinitionVersion,
) -> ResourceType {
    let spec = &definition.spec;
    let names = &spec.names;
    let metadata = compiler.built_in(OBJECT_META);
    let type_name = type_name(&spec.group, &version.name, &names.kind);
    let subresources = version.subresources.as_ref();
    ResourceType {
        group: spec.group.clone(),
        version: version.name.clone(),
        kind: names.kind.clone(),
        plural: names.plural.clone(),
        singular: names.singular.clone().unwrap_or_else(|| names.kind.to_lowercase()),
        short_names: names.short_names.clone().unwrap_or_default(),
        categories: names.categories.clone().unwrap_or_default(),
        namespaced: spec.scope == "Namespaced",
        has_status: subresources.is_some_and(|sub| sub.status.is_some()),
        has_scale: subresources.is_some_and(|sub| sub.scale.is_some()),
        verbs: ALL_VERBS,
        schema: compiler.custom(&structural_schema(version), &type_name, &metadata),
        columns: columns(version),
        custom: true,
        generation: true,
    }
}

/// The schema as JSON; an open object if a version has none, though every shipped version has one.
pub(super) fn structural_schema(version: &CustomResourceDefinitionVersion) -> Value {
    version
        .schema
        .as_ref()
        .and_then(|schema| schema.open_api_v3_schema.as_ref())
        .and_then(|schema| serde_json::to_value(schema).ok())
        .unwrap_or_default()
}

/// The columns of the definition after the name; the age is added only to a kind that defines
/// none, as the real server does.
fn columns(version: &CustomResourceDefinitionVersion) -> Vec<Column> {
    let mut columns = vec![Column::name()];
    match version.additional_printer_columns.as_deref() {
        Some(defined) if !defined.is_empty() => columns.extend(defined.iter().map(Column::custom)),
        _ => columns.push(Column::age()),
    }
    columns
}

/// `dev.knative.serving.v1.Service`: how the real server names a custom kind.
fn type_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').rev().collect();
    parts.extend([version, kind]);
    parts.join(".")
}
