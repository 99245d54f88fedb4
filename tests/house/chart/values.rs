//! What the chart says about itself: the table of its values, its icon, the metrics of its alerts.

use std::fmt::Write as _;

use ebb_tests::binaries::source;

/// Begins the comment of a value, in the form of helm-docs.
const DOCUMENTED: &str = "# -- ";

fn chart(file: &str) -> String {
    std::fs::read_to_string(source().join("deploy/helm/ebb").join(file)).unwrap()
}

/// The table of README.md, made from values.yaml: each value with its key, default and comment. It
/// is read by lines, because a parser would drop the comments; so values.yaml has one value on each
/// line.
fn table(values: &str) -> String {
    let mut table = "| Key | Default | Description |\n|-----|---------|-------------|\n".to_owned();
    let (mut path, mut comment) = (Vec::new(), None::<String>);
    for line in values.lines() {
        let text = line.trim_start();
        if let Some(begun) = text.strip_prefix(DOCUMENTED) {
            comment = Some(begun.to_owned());
        } else if let Some(more) = text.strip_prefix("# ") {
            comment = comment.map(|before| format!("{before} {more}"));
        } else if let Some((key, value)) = text.split_once(':') {
            path.truncate((line.len() - text.len()) / 2);
            path.push(key);
            let value = value.trim();
            let said = comment.take();
            assert_ne!(
                said.is_some(),
                value.is_empty(),
                "{path:?}: a value has a comment \"# --\""
            );
            if let Some(said) = said {
                writeln!(table, "| {} | `{value}` | {said} |", path.join(".")).unwrap();
            }
        } else {
            comment = None;
        }
    }
    table
}

#[test]
fn the_readmes_table_matches_values_yaml() {
    let readme = chart("README.md");
    let expected = table(&chart("values.yaml"));
    assert!(readme.ends_with(&expected), "README.md of the chart has to end with:\n{expected}");
    // Every other row would describe a key that does not exist.
    assert_eq!(readme.matches("\n|").count(), expected.lines().count());
}

#[test]
fn the_icon_is_the_one_that_lies_beside_the_chart() {
    let drawn = chart("icon.svg").lines().collect::<String>();
    let escapes = [("%", "%25"), ("<", "%3C"), (">", "%3E"), ("#", "%23"), (" ", "%20")];
    let drawn = escapes.iter().fold(drawn, |text, (from, to)| text.replace(from, to));
    let icon = format!("icon: \"data:image/svg+xml,{drawn}\"\n");
    assert!(chart("Chart.yaml").contains(&icon), "Chart.yaml has to have:\n{icon}");
}

#[test]
fn the_alerts_ask_for_metrics_that_there_are() {
    let rules = chart("templates/prometheusrule.yaml");
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut found = 0;
    for word in rules.split(|character| !is_name(character)) {
        let Some((part, metric)) = word.strip_prefix("ebb_").and_then(|name| name.split_once('_'))
        else {
            continue;
        };
        let quoted = format!("\"{}\"", metric.trim_end_matches("_total"));
        let registers = super::super::rust_files().into_iter().any(|file| {
            file.starts_with(source().join(part))
                && std::fs::read_to_string(file).unwrap().contains(&quoted)
        });
        assert!(registers, "{part} has no metric {quoted}");
        found += 1;
    }
    assert!(found >= 3, "only {found} metrics were found");
}
