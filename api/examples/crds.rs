//! Prints the CustomResourceDefinitions as YAML: `make generate` writes them to deploy/crds.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    for crd in ebb_api::crd::all() {
        writeln!(out, "---\n{}", serde_saphyr::to_string(&crd)?)?;
    }
    Ok(())
}
