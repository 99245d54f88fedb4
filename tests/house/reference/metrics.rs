//! The metrics that the code registers.

use std::collections::BTreeMap;

use super::pattern;

/// Type and labels of each metric, by the name that Prometheus shows.
pub(super) type Metrics = BTreeMap<String, (String, String)>;

/// All metrics that the code registers. A file has to name the prefix of its registry before it
/// registers anything.
pub(super) fn registered(code: &[String]) -> Metrics {
    let registers = |code: &&String| code.contains("prometheus_client::registry::Registry");
    let mut metrics = Metrics::new();
    for code in code.iter().filter(registers) {
        singles(&uncommented(code), &mut metrics);
        collected(code, &mut metrics);
    }
    metrics
}

/// Metrics that are registered one by one.
fn singles(code: &str, metrics: &mut Metrics) {
    let step = pattern(
        r#"(?s)sub_registry_with_prefix\("(\w+)"\)|\.register\(\s*"(\w+)",\s*(?:"(?:[^"\\]|\\.)*"|help),\s*([\w.]+)\.clone\(\)"#,
    );
    let mut prefix = String::new();
    let mut found = 0;
    for step in step.captures_iter(code) {
        if let Some(named) = step.get(1) {
            prefix = format!("{}_", named.as_str());
            continue;
        }
        let handle = step[3].rsplit('.').next().unwrap_or_default().to_owned();
        let (kind, labels) = declared(code, &handle);
        let suffix = if kind == "counter" { "_total" } else { "" };
        let name = format!("{prefix}{}{suffix}", &step[2]);
        assert!(metrics.insert(name, (kind, labels)).is_none(), "{} twice", &step[2]);
        found += 1;
    }
    assert_eq!(found, code.matches(".register(").count(), "a metric cannot be read: {code}");
}

/// Metrics that a collector writes from a table of names.
fn collected(code: &str, metrics: &mut Metrics) {
    if !code.contains(".register_collector(") {
        return;
    }
    let table =
        pattern(r"(?s)const NAMES: \[[^=]*= \[(.*?)\n\];").captures(code).unwrap()[1].to_owned();
    let labels = fields(code, "Labels");
    assert_eq!(code.matches("MetricType::Gauge").count(), 1, "a collector of another type");
    for name in pattern(r#"\("(\w+)", ""#).captures_iter(&table) {
        metrics.insert(name[1].to_owned(), ("gauge".to_owned(), labels.clone()));
    }
}

/// Type and labels of a metric, from the first line that declares the variable or field `handle`.
fn declared(code: &str, handle: &str) -> (String, String) {
    let line = format!(
        r"(?m)^.*\b{handle}\b[^\n]*?(?:Family(?:::)?<(\w+), )?\b(Counter|Gauge|Histogram)\b"
    );
    let found = pattern(&line).captures(code).unwrap_or_else(|| panic!("what is {handle}?"));
    let labels = found.get(1).map(|labels| fields(code, labels.as_str())).unwrap_or_default();
    (found[2].to_lowercase(), labels)
}

/// The names of a struct's fields.
fn fields(code: &str, name: &str) -> String {
    let body =
        pattern(&format!(r"(?s)struct {name} \{{(.*?)\}}")).captures(code).unwrap()[1].to_owned();
    let names: Vec<_> =
        pattern(r"(\w+): ").captures_iter(&body).map(|name| name[1].to_owned()).collect();
    names.join(", ")
}

fn uncommented(code: &str) -> String {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}
