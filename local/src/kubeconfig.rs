//! The kubeconfig that points `kubectl` at this process.

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ebb_apiserver::certificate::{self, Certificate};
use ebb_apiserver::private;
use serde_json::json;

/// Name of cluster, user and context: what `kubectl config get-contexts` shows.
const NAME: &str = "ebb-local";

/// Writes a kubeconfig for the API at `address` to `path`, whole or not at all. Only the owner may
/// read it: `token` allows everything.
pub fn write(
    path: &Path,
    address: SocketAddr,
    certificate: &Certificate,
    token: &str,
) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    private::replace(path, &content(address, certificate, token))
}

fn content(address: SocketAddr, certificate: &Certificate, token: &str) -> String {
    // The token stands where `kubectl config view` redacts it, and nowhere else.
    let cluster = json!({
        "server": format!("https://{address}"),
        "tls-server-name": certificate::NAME,
        "certificate-authority-data": BASE64_STANDARD.encode(certificate.trusted()),
    });
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": cluster}],
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
        let certificate = Certificate::fresh("test").unwrap();
        for port in [1, 2] {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            write(&path, address, &certificate, "secret").unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""https://127.0.0.1:2""#), "{text}");
        assert!(text.contains(r#""token": "secret""#), "{text}");
        assert_eq!(text.matches("secret").count(), 1, "kubectl prints what is not a token: {text}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
