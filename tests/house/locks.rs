//! The fuzz targets are built of the crates that Ebb is built of: `fuzz/` has a lock file of its own.

use std::collections::BTreeSet;

use ebb_tests::binaries::source;

/// Crates that only fuzzing needs.
const OWN: &[&str] = &["ebb-fuzz", "libfuzzer-sys"];

/// Name and version of every crate of a lock file.
fn crates(file: &str) -> BTreeSet<(String, String)> {
    let text = std::fs::read_to_string(source().join(file)).unwrap();
    let value = |line: &str, key: &str| {
        line.strip_prefix(key).map(|value| value.trim_matches(['"', ' ', '=']).to_owned())
    };
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.windows(2);
    let crates = pairs.filter_map(|two| Some((value(two[0], "name")?, value(two[1], "version")?)));
    crates.collect()
}

#[test]
fn the_lock_file_of_the_fuzz_targets_follows_that_of_the_workspace() {
    let (all, fuzzed) = (crates("Cargo.lock"), crates("fuzz/Cargo.lock"));
    assert!(fuzzed.len() > 50, "only {} crates were found", fuzzed.len());
    let foreign: Vec<_> =
        fuzzed.difference(&all).filter(|(name, _)| !OWN.contains(&name.as_str())).collect();
    assert!(
        foreign.is_empty(),
        "{foreign:?}: copy Cargo.lock to fuzz/, and run `cargo metadata --manifest-path \
         fuzz/Cargo.toml`, which takes out what is not needed there"
    );
}
