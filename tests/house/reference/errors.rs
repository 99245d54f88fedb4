//! The errors that the activator answers with, read from the functions that answer.

use std::collections::BTreeMap;

use ebb_tests::binaries::source;
use http::StatusCode;

use super::pattern;

/// Status, text and `retry-after` of each kind of error, by its label.
pub(super) fn answered() -> BTreeMap<String, [String; 3]> {
    let errors = read("error.rs");
    let answers = read("proxy/answer.rs");
    let mut all = rows(&errors, function(&answers, "retry_after"), &errors);
    let of_models = read("error/model.rs");
    all.extend(rows(&of_models, function(&of_models, "retry_after"), &errors));
    all
}

/// The same of one file; `retry_after` is the function that says it, and `errors` the file of all.
fn rows(file: &str, retry_after: &str, errors: &str) -> BTreeMap<String, [String; 3]> {
    let word = r#""([^"]+)""#;
    let labels = arms(function(file, "label"), word);
    let states = arms(function(file, "status"), r"(?:\{\s*StatusCode::|StatusCode::)?(\w+)");
    let retries = arms(retry_after, r"Some\((\d+)\)");
    let text = pattern(r#"#\[error\("((?:[^"\\]|\\.)+)"(?:,[^\]]+)?\)\]\s*(?://[^\n]*\s*)*(\w+)"#);
    let texts: BTreeMap<_, _> = text
        .captures_iter(file)
        .map(|found| (found[2].to_owned(), found[1].replace('\\', "")))
        .collect();
    assert_eq!(labels.len(), texts.len(), "{labels:?} and {texts:?}");
    let row = |(variant, label): (&String, &String)| {
        let retry = retries.get(variant).cloned().unwrap_or_default();
        (label.clone(), [status(errors, &states[variant]), texts[variant].clone(), retry])
    };
    labels.iter().map(row).collect()
}

/// The header that names the kind of an error.
pub(super) fn header() -> String {
    let header = pattern(r#"const ERROR_HEADER: &str = "([^"]+)""#);
    header.captures(&read("proxy/answer.rs")).unwrap()[1].to_owned()
}

/// The number of a status by its name: one of `http`, or the function for clients that are gone.
fn status(errors: &str, name: &str) -> String {
    if name == "client_closed" {
        return pattern(r"CLIENT_CLOSED: u16 = (\d+)").captures(errors).unwrap()[1].to_owned();
    }
    let is_it = |status: &StatusCode| {
        let reason = status.canonical_reason().unwrap_or_default();
        reason.to_uppercase().replace(' ', "_") == name
    };
    let mut all = (400..600).filter_map(|code| StatusCode::from_u16(code).ok());
    all.find(is_it).unwrap_or_else(|| panic!("{name} is no status")).as_u16().to_string()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(source().join("activator/src").join(file)).unwrap()
}

/// The text of a function, to its last brace.
fn function<'a>(code: &'a str, name: &str) -> &'a str {
    let start = code.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("no function {name}"));
    code[start..].split("\n    }\n").next().unwrap_or_default()
}

/// The value that each variant is matched to.
fn arms(function: &str, value: &str) -> BTreeMap<String, String> {
    let arm =
        pattern(&format!(r"((?:Self::\w+(?:\(_\)| \{{ \.\. \}})?(?:\s*\|\s*)?)+)\s*=>\s*{value}"));
    let variant = pattern(r"Self::(\w+)");
    let mut found = BTreeMap::new();
    for arm in arm.captures_iter(function) {
        for variant in variant.captures_iter(&arm[1]) {
            found.insert(variant[1].to_owned(), arm[2].to_owned());
        }
    }
    found
}
