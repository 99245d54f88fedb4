//! The defects that the simulation has to find are patches of this code, and apply to it as it is.

use std::process::Command;

use ebb_tests::binaries::source;

#[test]
fn every_defect_applies_and_names_the_rule_that_it_breaks() {
    let rules = std::fs::read_to_string(source().join("simulation/src/invariants.rs")).unwrap();
    let folder = std::fs::read_dir(source().join("simulation/defects")).unwrap();
    let patches = folder.flatten().map(|entry| entry.path());
    let patches: Vec<_> =
        patches.filter(|path| path.extension().is_some_and(|end| end == "patch")).collect();
    assert!(patches.len() > 10, "only {} patches were found", patches.len());
    for patch in patches {
        let name = patch.display();
        let text = std::fs::read_to_string(&patch).unwrap();
        let rule = text.lines().nth(1).and_then(|line| line.strip_prefix("Breaks: "));
        assert!(
            rule.is_some_and(|rule| rules.contains(&format!("= \"{rule}"))),
            "{name}: {rule:?}"
        );
        let mut check = Command::new("git");
        let check = check.args(["apply", "--check"]).arg(&patch).current_dir(source()).output();
        let said = check.unwrap();
        assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stderr));
    }
}
