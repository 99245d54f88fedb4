//! Content negotiation and the decoding of request bodies.

use bytes::Bytes;
use http::{HeaderMap, header};

use crate::failure::RequestFailure;
use crate::strict::{self, Decoded};
use crate::{measure, protobuf};

/// In which shape a client wants objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As they are.
    #[default]
    Whole,
    /// As rows, for people: `kubectl get`.
    Table,
    /// Their metadata only.
    Metadata,
}

/// How a patch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own, for built-in kinds.
    Strategic,
    /// Server-side apply.
    Apply,
}

/// The first shape in `Accept` that this server has. Shapes that it does not have (protobuf,
/// aggregated discovery) are skipped, as clients list plain JSON last.
pub(crate) fn shape(headers: &HeaderMap) -> Result<Shape, RequestFailure> {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let accepted: Vec<&str> = accepted.filter_map(|value| value.to_str().ok()).collect();
    if accepted.is_empty() {
        return Ok(Shape::Whole);
    }
    let mut ranges = accepted.iter().flat_map(|value| value.split(','));
    ranges.find_map(shape_of).ok_or_else(|| {
        RequestFailure::new(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json",
        )
    })
}

fn shape_of(range: &str) -> Option<Shape> {
    let mut parts = range.split(';').map(str::trim);
    let json = matches!(parts.next()?, "application/json" | "application/*" | "*/*");
    let mut shape = Shape::Whole;
    for part in parts {
        match part.split_once('=')? {
            ("as", "Table") => shape = Shape::Table,
            ("as", "PartialObjectMetadata" | "PartialObjectMetadataList") => {
                shape = Shape::Metadata;
            }
            ("as", _) => return None,
            ("v", version) if version != "v1" => return None,
            _ => {}
        }
    }
    json.then_some(shape)
}

/// What kind of patch `Content-Type` announces.
pub(crate) fn patch_kind(headers: &HeaderMap) -> Result<PatchKind, RequestFailure> {
    match content_type(headers) {
        "application/json-patch+json" => Ok(PatchKind::Json),
        "application/merge-patch+json" => Ok(PatchKind::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchKind::Strategic),
        "application/apply-patch+yaml" | "application/apply-patch+json" => Ok(PatchKind::Apply),
        _ => Err(unsupported(
            "application/json-patch+json, application/merge-patch+json, \
             application/strategic-merge-patch+json, application/apply-patch+yaml",
        )),
    }
}

/// The failure of a body in a format that is not read.
pub(crate) fn unsupported(accepted: &str) -> RequestFailure {
    RequestFailure::new(
        415,
        "UnsupportedMediaType",
        format!(
            "the body of the request was in an unknown format - accepted media types include: \
             {accepted}"
        ),
    )
}

/// Decodes a body: JSON, or the format of its content type. Refuses one that is nested deeper than
/// an object may be, also a patch.
pub(crate) fn decode(headers: &HeaderMap, body: &Bytes) -> Result<Decoded, RequestFailure> {
    let decoded = read(headers, body)?;
    measure::check_levels(&decoded.value)?;
    Ok(decoded)
}

fn read(headers: &HeaderMap, body: &Bytes) -> Result<Decoded, RequestFailure> {
    let yaml = match content_type(headers) {
        protobuf::CONTENT_TYPE => return decode_protobuf(body),
        "application/yaml" | "application/apply-patch+yaml" => true,
        "application/json" | "application/apply-patch+json" | "" | "*/*" => false,
        other if other.ends_with("+json") => false,
        _ => return Err(unsupported("application/json, application/yaml")),
    };
    // Clients send JSON as YAML too; the JSON reader is faster and finds every duplicate.
    if yaml && !body.trim_ascii_start().starts_with(b"{") {
        return decode_yaml(body);
    }
    strict::read_json(body).map_err(|error| {
        RequestFailure::bad_request(format!("couldn't decode the body as JSON: {error}"))
    })
}

fn decode_yaml(body: &Bytes) -> Result<Decoded, RequestFailure> {
    let text = str::from_utf8(body)
        .map_err(|_| RequestFailure::bad_request("the body of the request is not UTF-8"))?;
    let value = serde_saphyr::from_str(text).map_err(|error| {
        RequestFailure::bad_request(format!("couldn't decode the body as YAML: {error}"))
    })?;
    // A duplicate key in YAML is an error of the reader already.
    Ok(Decoded { value, duplicates: Vec::new() })
}

fn decode_protobuf(body: &Bytes) -> Result<Decoded, RequestFailure> {
    let value = protobuf::read(body).map_err(|error| {
        let mut failure = unsupported("application/json, application/yaml");
        failure.message = format!(
            "{error}: send it as YAML, as in `kubectl create ... --dry-run=client -o yaml | \
             kubectl create -f -`"
        );
        failure
    })?;
    Ok(Decoded { value, duplicates: Vec::new() })
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &'static str) -> Result<Shape, RequestFailure> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, http::HeaderValue::from_static(value));
        shape(&headers)
    }

    #[test]
    fn the_first_shape_that_is_served_wins() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(accept(table), Ok(Shape::Table));
        let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(accept(partial), Ok(Shape::Metadata));
        let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json";
        assert_eq!(accept(aggregated), Ok(Shape::Whole));
        let protobuf = accept("application/vnd.kubernetes.protobuf");
        assert_eq!(protobuf.map_err(|failure| failure.code), Err(406));
    }

    #[test]
    fn json_sent_as_yaml_and_yaml_are_both_read() {
        let mut headers = HeaderMap::new();
        let yaml = http::HeaderValue::from_static("application/apply-patch+yaml");
        headers.insert(header::CONTENT_TYPE, yaml);
        for body in ["{\"kind\": \"Pod\"}", "kind: Pod\n"] {
            let decoded = decode(&headers, &Bytes::from_static(body.as_bytes())).unwrap();
            assert_eq!(decoded.value, serde_json::json!({ "kind": "Pod" }));
        }
    }
}
