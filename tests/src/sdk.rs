//! Programs of `tests/sdk`, which use Ebb by OpenAI's SDKs. `scripts/fetch-sdks` puts them there.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::binaries;

/// What a program got, as it tells in JSON: `python-NAME` or `node-NAME`. It ends when this is
/// dropped.
pub async fn told_by(program: &str, arguments: &[&str]) -> anyhow::Result<Value> {
    let program = binaries::binary("sdks").join(program);
    let output = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {error}", program.display());
    serde_json::from_slice(&output.stdout).context("it prints one JSON object")
}
