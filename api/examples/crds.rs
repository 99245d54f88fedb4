//! Prints the CustomResourceDefinitions, made of the types: with `yaml` for clusters, with `json` for
//! Ebb itself. `make generate` writes them to deploy/crds/ebb.yaml and api/crds.json.

use std::io::Write as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let definitions = ebb_api::schema::definitions();
    let mut out = std::io::stdout().lock();
    match std::env::args().nth(1).as_deref() {
        Some("yaml") => {
            for definition in definitions {
                writeln!(out, "---\n{}", serde_saphyr::to_string(&definition)?)?;
            }
        }
        Some("json") => {
            let lines: Vec<String> =
                definitions.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
            writeln!(out, "[\n{}\n]", lines.join(",\n"))?;
        }
        _ => return Err("give yaml or json".into()),
    }
    Ok(())
}
