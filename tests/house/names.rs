//! A name means one thing in the whole house: two crates never share the name of a type that other
//! files of its crate can name.

use std::collections::{BTreeMap, BTreeSet};

use ebb_tests::binaries::source;
use regex::Regex;

use crate::files::{CRATES, code_in};

/// Programs that are shipped with Ebb and are no part of it.
const EXAMPLES: &[&str] = &["examples/chat", "examples/onnx"];

/// The crates in which each name of a type stands.
type Homes = BTreeMap<String, BTreeSet<&'static str>>;

#[test]
fn a_type_name_stands_in_one_crate() {
    let mut homes = Homes::new();
    for name in CRATES.iter().chain(EXAMPLES) {
        let files = code_in(&source().join(name).join("src"));
        let found: Vec<_> = files.iter().flat_map(|(_, code)| types_of(code)).collect();
        assert!(!found.is_empty(), "no type in {name}");
        for found in found {
            homes.entry(found).or_default().insert(name);
        }
    }
    homes.retain(|_, homes| homes.len() > 1);
    assert!(homes.is_empty(), "say whose each is: {homes:?}");
}

#[test]
fn a_type_is_found() {
    let code = "pub struct A<T>(T);\n    pub(crate) enum B {}\nstruct Own;\npub(super) struct Near;\n\
        pub type C = u8;\npub(crate) trait D {}\npub fn f() {}\nimpl A { type E = u8; }\n// pub struct F\n";
    assert_eq!(types_of(code), ["A", "B", "C", "D"]);
}

/// The names of the types that other files of the crate can name.
fn types_of(code: &str) -> Vec<String> {
    let line = r"(?m)^ *pub(?:\(crate\))? (?:unsafe )?(?:struct|enum|union|trait|type) (\w+)";
    let line = Regex::new(line).unwrap();
    line.captures_iter(code).map(|found| found[1].to_owned()).collect()
}
