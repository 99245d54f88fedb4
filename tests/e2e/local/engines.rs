//! The manifests of other engines, which no test can run: the API takes them with the settings that
//! they name, and with no fewer.

use std::collections::BTreeSet;

use ebb_tests::binaries::source;
use ebb_tests::ebb::Ebb;

/// The keys of `config-features` that the comments of a manifest name.
fn keys(manifest: &str) -> BTreeSet<String> {
    let comments = manifest.lines().filter_map(|line| line.trim().strip_prefix('#'));
    let is_part = |letter: char| letter.is_ascii_lowercase() || matches!(letter, '.' | '-');
    let words = comments.flat_map(|line| line.split(|letter| !is_part(letter)));
    words.filter(|word| word.starts_with("kubernetes.")).map(str::to_owned).collect()
}

fn features(keys: &BTreeSet<String>) -> String {
    let data: Vec<_> = keys.iter().map(|key| format!("{key}: enabled")).collect();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config-features, namespace: \
         knative-serving}}\ndata: {{{}}}\n",
        data.join(", ")
    )
}

#[tokio::test]
async fn manifests_of_engines_are_taken_with_the_settings_that_they_name() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    let dry_run = ["apply", "--dry-run=server", "-f", "-"];
    let mut files = 0;
    for entry in std::fs::read_dir(source().join("examples/llm/engines"))? {
        let path = entry?.path();
        let manifest = std::fs::read_to_string(&path)?;
        let keys = keys(&manifest);
        for without in &keys {
            let fewer = keys.iter().filter(|key| *key != without).cloned().collect();
            kubectl.apply(&features(&fewer)).await?;
            // The settings are read from a watch.
            ebb_tests::eventually("the manifest is refused", || async {
                kubectl.fails(&dry_run, Some(&manifest)).await.ok()
            })
            .await;
        }
        kubectl.apply(&features(&keys)).await?;
        ebb_tests::eventually("the manifest is taken", || async {
            let said = kubectl.run(&dry_run, Some(&manifest)).await.ok()?;
            said.out.contains("created (server dry run)").then_some(())
        })
        .await;
        files += 1;
    }
    assert_eq!(files, 3);
    Ok(())
}
