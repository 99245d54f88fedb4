//! Other users of the same machine see nothing and can do nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ebb_tests::ebb::Ebb;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::backend;
use serde_json::Value;
use tempfile::TempDir;

/// The entries of a folder whose mode does not keep them for their owner alone.
fn open_to_others(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Made by the kubectl of these tests.
        if entry.file_name() == "kubeconfig.cache" {
            continue;
        }
        let mode = entry.metadata()?.permissions().mode() & 0o777;
        let expected = if entry.file_type()?.is_dir() { 0o700 } else { 0o600 };
        if mode != expected {
            open.push(format!("{:o} {}", mode, entry.path().display()));
        }
        if entry.file_type()?.is_dir() {
            open.extend(open_to_others(&entry.path())?);
        }
    }
    Ok(open)
}

/// `kubectl` with a copy of that kubeconfig in which one entry is changed; the copy goes to
/// `folder`.
fn changed(
    kubeconfig: &Path,
    (entry, value): (&str, &str),
    folder: &Path,
) -> anyhow::Result<Kubectl> {
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(kubeconfig)?)?;
    *config.pointer_mut(entry).expect("the kubeconfig has it") = Value::from(value);
    let copy = folder.join("kubeconfig");
    std::fs::write(&copy, config.to_string())?;
    Ok(Kubectl::new(&copy))
}

#[tokio::test]
async fn the_api_and_the_state_are_closed_without_the_kubeconfig() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("hello", &[])).await?;
    kubectl.wait_ready("hello").await?;
    let elsewhere = TempDir::with_prefix("ebb-test-")?;
    let guess = ("/users/0/user/token", "guess");
    let stranger = changed(&ebb.kubeconfig(), guess, elsewhere.path())?;
    assert_eq!(stranger.ok(&["get", "--raw", "/healthz"]).await?, "ok");
    for request in [&["get", "pods"][..], &["get", "--raw", "/api/v1/pods"]] {
        let said = stranger.fails(request, None).await?;
        assert!(said.contains("Unauthorized") || said.contains("logged in"), "{said}");
    }
    // A stranger who listened at that port would get no token, for want of the right certificate.
    let authority = ("/clusters/0/cluster/certificate-authority-data", "");
    let careful = changed(&ebb.kubeconfig(), authority, elsewhere.path())?;
    let said = careful.fails(&["get", "pods"], None).await?;
    assert!(said.contains("certificate"), "{said}");

    let data = ebb.data();
    assert_eq!(std::fs::metadata(&data)?.permissions().mode() & 0o777, 0o700);
    assert_eq!(open_to_others(&data)?, Vec::<String>::new());

    let view = async |kubectl: &Kubectl, path: &str| {
        let path = format!("jsonpath={{{path}}}");
        kubectl.ok(&["config", "view", "--raw", "-o", &path]).await
    };
    let (token, authority) =
        (".users[0].user.token", ".clusters[0].cluster.certificate-authority-data");
    let secret = view(&kubectl, token).await?;
    for shown in [&["config", "view"][..], &["cluster-info"]] {
        let said = kubectl.ok(shown).await?;
        assert!(!said.contains(&secret), "kubectl {shown:?} prints the token: {said}");
    }

    // A copy of the kubeconfig that is kept elsewhere is good for the next start as well.
    let trusted = view(&kubectl, authority).await?;
    let (_, folder) = ebb.stop().await?;
    let ebb = Ebb::start_in(folder, &[]).await?;
    assert_eq!(view(&ebb.kubectl(), token).await?, secret);
    assert_eq!(view(&ebb.kubectl(), authority).await?, trusted);
    Ok(())
}
