//! The kubeconfig that points `kubectl` at this process.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::json;

/// Name of cluster, user and context: what `kubectl config get-contexts` shows.
const NAME: &str = "ebb-local";

/// Writes a kubeconfig for the API at `address` to `path`, whole or not at all.
///
/// Only the owner may read it: it names no secret today, but clients keep tokens in such files.
pub fn write(path: &Path, address: SocketAddr) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(beside)?;
    file.write_all(content(address).as_bytes())?;
    std::fs::rename(beside, path)
}

fn content(address: SocketAddr) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": NAME, "user": {}}],
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
            write(&path, SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("http://127.0.0.1:2"), "{text}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
