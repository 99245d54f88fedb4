//! Failures before the first request: one clear line, an exit code, nothing lost.

use std::process::Stdio;
use std::sync::Arc;

use ebb_tests::ebb::{Ebb, command};
use ebb_tests::manifest::backend;
use tempfile::TempDir;

/// Runs an `ebb local` that must not start. Returns its standard error.
async fn refused(folder: &std::path::Path, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = command(folder, arguments);
    let output = command.stderr(Stdio::piped()).kill_on_drop(true).output();
    let output = tokio::time::timeout(ebb_tests::PATIENCE, output).await??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(output.status.code(), Some(0), "it started: {said}");
    assert_eq!(said.trim().lines().count(), 1, "one line: {said}");
    Ok(said)
}

#[tokio::test]
async fn a_second_ebb_on_the_same_folder_is_refused() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let said = refused(&ebb.data(), &[]).await?;
    assert!(said.contains("another ebb runs") && said.contains("--data"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_flag_that_changes_it() -> anyhow::Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let folder = TempDir::with_prefix("ebb-test-")?;
    for flag in ["--listen", "--inner", "--api"] {
        let said = refused_with(folder.path(), flag, &address).await?;
        assert!(said.contains(&address) && said.contains(flag), "{said}");
    }
    Ok(())
}

/// Private services are for this machine alone.
#[tokio::test]
async fn the_inner_door_is_on_loopback_only() -> anyhow::Result<()> {
    let folder = TempDir::with_prefix("ebb-test-")?;
    let said = refused_with(folder.path(), "--inner", "0.0.0.0:0").await?;
    assert!(said.contains("--inner 0.0.0.0:0") && said.contains("loopback"), "{said}");
    Ok(())
}

async fn refused_with(
    folder: &std::path::Path,
    flag: &str,
    address: &str,
) -> anyhow::Result<String> {
    let mut command = tokio::process::Command::new(ebb_tests::binaries::binary("ebb"));
    command.args(["local", flag, address, "--data"]).arg(folder);
    for other in ["--listen", "--inner", "--api"].iter().filter(|other| **other != flag) {
        command.args([other, "127.0.0.1:0"]);
    }
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(ebb_tests::PATIENCE, output).await??;
    assert_ne!(output.status.code(), Some(0));
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn a_damaged_state_folder_is_refused_and_left_as_it_is() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    for name in ["one", "two", "three"] {
        ebb.kubectl().apply(&backend(name, &[])).await?;
    }
    let data = ebb.data();
    let (_, folder) = ebb.stop().await?;
    let journal = std::fs::read_dir(data.join("state"))?
        .flatten()
        .map(|entry| entry.path())
        .max_by_key(|path| path.metadata().map_or(0, |file| file.len()))
        .expect("there is a state file");
    let mut bytes = std::fs::read(&journal)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&journal, &bytes)?;
    let said = refused(&data, &[]).await?;
    assert!(said.contains("damaged") && said.contains(&journal.display().to_string()), "{said}");
    assert_eq!(std::fs::read(&journal)?, bytes, "the file was changed");

    bytes[middle] ^= 0xff;
    std::fs::write(&journal, &bytes)?;
    let ebb = Ebb::start_in(folder, &[]).await?;
    let names = ebb.kubectl().ok(&["get", "ksvc", "-o", "name"]).await?;
    assert_eq!(names.lines().count(), 3, "{names}");
    Ok(())
}

#[tokio::test]
async fn manifests_given_at_the_start_are_applied_and_a_bad_one_is_named() -> anyhow::Result<()> {
    let folder = Arc::new(TempDir::with_prefix("ebb-test-")?);
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests)?;
    std::fs::write(manifests.join("one.yaml"), backend("one", &[]))?;
    let both = format!("{}---\n{}", backend("two", &[]), backend("three", &[]));
    std::fs::write(manifests.join("more.yml"), both)?;
    let path = manifests.display().to_string();
    let ebb = Ebb::start_in(folder.clone(), &["-f", &path]).await?;
    for name in ["one", "two", "three"] {
        ebb.kubectl().wait_ready(name).await?;
    }
    drop(ebb);
    std::fs::write(manifests.join("bad.yaml"), backend("bad", &[]).replace("spec:", "spce:"))?;
    let said = refused(&folder.path().join("data"), &["-f", &path]).await?;
    assert!(said.contains("bad.yaml") && said.contains("spce"), "{said}");
    Ok(())
}
