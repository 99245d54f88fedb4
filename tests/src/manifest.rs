//! The manifests that the tests deploy, and the references of their images.

use crate::binaries::source;

/// Settings that make scaling quick enough to test: Knative's smallest window.
pub const QUICK: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: config-autoscaler, namespace: knative-serving}
data: {stable-window: 6s, scale-to-zero-grace-period: 1s}
";

/// Where a cluster finds the images: `NAME=REFERENCE`, separated by spaces.
const IMAGES: &str = "EBB_E2E_IMAGES";

/// A Service that runs the tests' backend.
pub fn backend(name: &str, arguments: &[&str]) -> String {
    service(name, "ebb-backend", arguments, "", "")
}

/// A Service that runs the tests' backend with template annotations (`key: "value"` pairs,
/// comma-separated) and more fields of the revision's spec (the same form).
pub fn service(
    name: &str,
    program: &str,
    arguments: &[&str],
    annotations: &str,
    spec: &str,
) -> String {
    let comma = if spec.is_empty() { "" } else { "," };
    let image = image("ebb-backend");
    format!(
        "apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{name: {name}}}
spec:
  template:
    metadata: {{annotations: {{{annotations}}}}}
    spec: {{{spec}{comma} containers: [{{image: {image}, command: [{program}], args: {arguments:?}}}]}}
"
    )
}

/// A Service that runs the simulated chat model with these variables, and with template annotations and more
/// fields of its container as in [`service`].
pub fn chat(name: &str, annotations: &str, variables: &[(&str, &str)], container: &str) -> String {
    let image = image("ebb-chat");
    let variables =
        variables.iter().map(|(name, value)| format!("{{name: {name}, value: {value:?}}}"));
    let variables = variables.collect::<Vec<_>>().join(", ");
    let comma = if container.is_empty() { "" } else { "," };
    format!(
        "apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{name: {name}}}
spec:
  template:
    metadata: {{annotations: {{{annotations}}}}}
    spec:
      containers:
        - {{image: {image}, command: [ebb-chat], env: [{variables}],
           readinessProbe: {{httpGet: {{path: /health}}}}{comma} {container}}}
"
    )
}

/// `sha256sum examples/onnx/models/digits.onnx`.
const DIGITS_SHA256: &str = "34f49d3850ccf1ae96907560d7736e68665e87624c55e663671f9e0ada505cde";

/// The source of the classifier of digits that lies at `url`, for `serving.ebb.dev/model`.
pub fn digits_at(url: &str) -> String {
    format!("{url}#sha256={DIGITS_SHA256}")
}

/// A Service that runs the classifier of digits with its model from `source`; `annotations` and
/// `container` are more of the template and of its container, as in [`service`].
pub fn fetched_digits(name: &str, source: &str, annotations: &str, container: &str) -> String {
    let image = image("ebb-onnx");
    let comma = |more: &str| if more.is_empty() { "" } else { "," };
    let (noted, more) = (comma(annotations), comma(container));
    format!(
        "apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{name: {name}}}
spec:
  template:
    metadata:
      annotations: {{serving.ebb.dev/model: '{source}'{noted} {annotations}}}
    spec:
      containers:
        - {{image: {image}, command: [ebb-onnx], args: [--model, digits=$(EBB_MODEL)],
           readinessProbe: {{httpGet: {{path: /v2/health/ready}}}}{more} {container}}}
"
    )
}

/// The reference under which the cluster under test finds an image of that name; the name itself in
/// local mode, which does not look at images.
pub fn image(name: &str) -> String {
    let images = std::env::var(IMAGES).unwrap_or_default();
    let pairs = images.split_whitespace().filter_map(|pair| pair.split_once('='));
    let found = pairs.filter(|(known, _)| *known == name).map(|(_, reference)| reference).next();
    found.unwrap_or(name).to_owned()
}

/// The manifest of an example, with its image where the cluster under test finds it.
pub fn example(name: &str) -> anyhow::Result<String> {
    let path = source().join(format!("examples/{name}/service.yaml"));
    let text = std::fs::read_to_string(path)?;
    let name = format!("ebb-{name}");
    Ok(text.replace(&format!("image: {name}:latest"), &format!("image: {}", image(&name))))
}
