//! `docs/reference.md` agrees with the code: its tables are compared with the code's own lists.
//!
//! Names of metrics, errors, flags, annotations and settings stand in the code once, where they are
//! registered, parsed or matched, and are read from there. The other columns of a table (types,
//! labels, statuses, defaults, bounds) are compared, too; only people can judge the meaning.

mod document;
mod errors;
mod flags;
mod metrics;

use std::collections::{BTreeMap, BTreeSet};

use ebb_api::config::Config;
use ebb_tests::binaries::source;
use regex::Regex;

use crate::files::code_in;
use document::Document;

/// Crates whose names a user or operator meets.
const CRATES: &[&str] =
    &["api", "activator", "autoscaler", "controller", "daemon", "fetch", "local"];

/// The code of all of [`CRATES`], file after file.
fn code() -> Vec<String> {
    let of = |name: &&str| code_in(&source().join(name).join("src"));
    CRATES.iter().flat_map(of).map(|(_, code)| code).collect()
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

#[test]
fn every_metric_is_in_the_reference_with_its_type_and_labels() {
    let rows = Document::read().rows("## Metrics").into_iter().map(|row| {
        let [name, kind, labels] = [0, 1, 2].map(|cell| row[cell].clone());
        (name, (kind, labels))
    });
    let documented: BTreeMap<_, _> = rows.collect();
    assert_eq!(metrics::registered(&code()), documented);
}

#[test]
fn every_error_is_in_the_reference_with_its_status_and_text() {
    let document = Document::read();
    let rows = document.rows("## Errors").into_iter().map(|row| {
        let [label, status, text, retry] = [0, 1, 2, 3].map(|cell| row[cell].clone());
        (label, [status, text, retry])
    });
    let documented: BTreeMap<_, _> = rows.collect();
    assert_eq!(errors::answered(), documented);
    let header = format!("`{}`", errors::header());
    assert!(document.section("## Errors").contains(&header), "{header} is not named");
}

#[test]
fn every_flag_is_in_the_reference_with_its_variable_and_default() {
    let document = Document::read();
    for (heading, parsed) in flags::parsed(&code()) {
        let rows = document.rows(&heading).into_iter().map(|row| {
            let [flag, variable, default] = [0, 1, 2].map(|cell| row[cell].clone());
            (flag, [variable, default])
        });
        assert_eq!(parsed, rows.collect(), "{heading}");
    }
}

#[test]
fn every_variable_that_is_read_is_in_the_reference() {
    let read = pattern(r#"std::env::var(?:_os)?\("(\w+)"\)"#);
    let code = code().concat();
    let read = read.captures_iter(&code).map(|found| found[1].to_owned());
    let documented = Document::read().rows("### Other variables").into_iter();
    let documented: BTreeSet<_> = documented.map(|row| row[0].clone()).collect();
    let missing: BTreeSet<_> = read.filter(|name| !documented.contains(name)).collect();
    assert_eq!(missing, BTreeSet::new());
}

/// Compares whole keys, as the code writes them; the group and version of an object is no such key.
#[test]
fn every_annotation_and_label_is_in_the_reference() {
    let key = pattern(r#""((?:[a-z]+\.)*(?:knative|ebb|kubernetes)\.(?:dev|io)/[A-Za-z.-]+)""#);
    let code = code().concat();
    let mut written: BTreeSet<_> = key.captures_iter(&code).map(|key| key[1].to_owned()).collect();
    let networking = pattern(r"(?s)const NETWORKING_KEYS: &\[&str\] = &\[(.*?)\];");
    let list = networking.captures(&code).unwrap()[1].to_owned();
    for name in pattern(r#""([^"]+)""#).captures_iter(&list) {
        written.insert(format!("{}/{}", ebb_api::annotations::NETWORKING_GROUP, &name[1]));
    }
    // The only label without a group.
    written.insert(ebb_api::labels::APP.to_owned());
    let document = Document::read();
    let section = document.section("## Annotations and labels");
    let mut group = String::new();
    let mut documented = BTreeSet::new();
    let quoted = pattern("`([^`]+)`");
    for line in section.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            group = quoted.captures(heading).map(|name| name[1].to_owned()).unwrap_or_default();
        } else if line.starts_with("| `") {
            // The cells of the key and its older spelling.
            let names = line.split('|').skip(1).take(2).collect::<String>();
            documented
                .extend(quoted.captures_iter(&names).map(|name| format!("{group}{}", &name[1])));
        }
    }
    assert_eq!(written, documented);
}

#[test]
fn every_setting_is_in_the_reference_with_its_default_and_bounds() {
    let document = Document::read();
    let maps = pattern(r#"const (?:\w+_)?MAP: &str = "([\w-]+)""#);
    let read = pattern(r#"(?:read\.\w+\(|\(Feature::\w+, )"([\w.-]+)""#);
    let bound = pattern(r#""([\w.-]+)",\s*"(must [^"]+|templates [^"]+)""#);
    let mut settings = 0;
    for (path, code) in code_in(&source().join("api/src/config")) {
        // Of two maps in a file, the last has keys; the other is a list of names that people
        // choose.
        let map = maps.captures_iter(&code).last().unwrap()[1].to_owned();
        let rows = document.rows(&format!("### `{map}`"));
        let documented: BTreeSet<_> = rows.iter().map(|row| row[0].clone()).collect();
        let keys: BTreeSet<_> = read.captures_iter(&code).map(|key| key[1].to_owned()).collect();
        assert_eq!(keys, documented, "{map}, {}", path.display());
        settings += keys.len();
        for row in &rows {
            let [key, default, allowed] = [0, 1, 2].map(|cell| row[cell].as_str());
            is_default(&map, key, default);
            for found in bound.captures_iter(&code).filter(|found| found[1] == *key) {
                let said = found[2].trim_start_matches("must be ");
                assert!(allowed.contains(said), "{map}: {key}: {allowed:?} is not {said:?}");
            }
        }
    }
    assert!(settings > 40, "only {settings} settings were found");
}

/// The default as a value changes nothing in the code's settings; a nonsensical value is refused
/// with the key's name.
fn is_default(map: &str, key: &str, default: &str) {
    let with = |value: &str| {
        let data = [(key.to_owned(), value.to_owned())].into();
        Config::default().with_map(map, &data)
    };
    assert_eq!(with(default), Ok(Config::default()), "{map}: {key}: {default}");
    assert_eq!(with("{{nonsense").unwrap_err().key, key, "{map}");
}

/// Every map of settings that the code reads has a section of its own.
#[test]
fn every_map_of_settings_is_in_the_reference() {
    let maps = pattern(r#"const (?:\w+_)?MAP: &str = "([\w-]+)""#);
    let document = Document::read();
    let code = code().concat();
    for map in maps.captures_iter(&code) {
        assert!(!document.section(&format!("### `{}`", &map[1])).is_empty());
    }
}
