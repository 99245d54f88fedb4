//! The kubeconfig that points `kubectl` at this process.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

use crate::private;

/// Name of cluster, user and context: what `kubectl config get-contexts` shows.
const NAME: &str = "ebb-local";

/// Writes a kubeconfig for the API at `address` to `path`, whole or not at all. Only the owner may
/// read it: who has `token` may do everything.
pub fn write(path: &Path, address: SocketAddr, token: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    private::replace(path, &content(address, token))
}

fn content(address: SocketAddr, token: &str) -> String {
    // client-go sends nothing of a user's entry over plain HTTP; what stands in the URL it sends as
    // a password. kube-rs and others take the user's entry.
    let server = format!("http://{NAME}:{token}@{address}");
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": {"server": server}}],
        "users": [{"name": NAME, "user": {"token": token}}],
        "contexts": [{
            "name": NAME,
            "context": {"cluster": NAME, "user": NAME, "namespace": "default"},
        }],
        "current-context": NAME,
    });
    // JSON is YAML, and every client reads it.
    let mut text = serde_json::to_string_pretty(&config).expect("a literal of strings");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_replaces_an_older_one_and_is_for_the_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/kubeconfig");
        for port in [1, 2] {
            write(&path, SocketAddr::from(([127, 0, 0, 1], port)), "secret").unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("http://ebb-local:secret@127.0.0.1:2\""), "{text}");
        assert!(text.contains(r#""token": "secret""#), "{text}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
