//! The template that a Service or Configuration stamps Revisions out of.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::RevisionSpec;

/// Metadata and spec of the next Revision.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RevisionTemplateSpec {
    /// Name, labels and annotations of the Revision; nothing flows here from the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::template_metadata"))]
    pub metadata: Option<ObjectMeta>,
    /// What to run.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(transform = crate::schema::without_default))]
    pub spec: RevisionSpec,
}
