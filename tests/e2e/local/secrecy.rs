//! L4: what others who use the same machine see and can do: nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ebb_tests::client::Client;
use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::backend;

/// Everything in a folder that somebody else could read.
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

#[tokio::test]
async fn nobody_without_the_kubeconfig_reads_or_does_anything() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("hello", &[])).await?;
    kubectl.wait_ready("hello").await?;
    let server = "jsonpath={.clusters[0].cluster.server}";
    let server = kubectl.ok(&["config", "view", "--raw", "-o", server]).await?;
    let (_, address) = server.split_once('@').unwrap();
    let open = format!("http://{address}");
    let address = address.parse()?;
    let answer = Client::new(address).get("localhost", "/api/v1/pods").await?;
    assert_eq!(answer.status, 401, "{}", answer.text);
    assert_eq!(answer.field("reason"), "Unauthorized");
    let health = Client::new(address).get("localhost", "/healthz").await?;
    assert_eq!((health.status.as_u16(), health.text.as_str()), (200, "ok"));
    let said = kubectl.fails(&["get", "pods", "--server", &open], None).await?;
    assert!(said.contains("Unauthorized") || said.contains("logged in"), "{said}");

    let data = ebb.data();
    assert_eq!(std::fs::metadata(&data)?.permissions().mode() & 0o777, 0o700);
    assert_eq!(open_to_others(&data)?, Vec::<String>::new());

    // A kubeconfig that somebody keeps elsewhere is good for the next start as well.
    let token = "jsonpath={.users[0].user.token}";
    let before = kubectl.ok(&["config", "view", "--raw", "-o", token]).await?;
    let (_, folder) = ebb.stop().await?;
    let ebb = Ebb::start_in(folder, &[]).await?;
    let after = ebb.kubectl().ok(&["config", "view", "--raw", "-o", token]).await?;
    assert_eq!(before, after);
    Ok(())
}
