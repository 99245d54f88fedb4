//! TLS with an authority of one's own.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::process::Cache;
use crate::server::{Server, noise};

/// Connections whose handshake went well.
struct Secure {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Secure {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (connection, address) = self.listener.accept().await.unwrap();
            if let Ok(connection) = self.acceptor.accept(connection).await {
                return (connection, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A server for `localhost` with its authority's certificate.
async fn start() -> (Server, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    (Server::of(Secure { listener, acceptor }, address), authority.pem())
}

#[tokio::test]
async fn an_authority_of_ones_own_is_believed_if_it_is_named() {
    let (server, pem) = start().await;
    let bytes = noise(100_000, 1);
    server.put("/m.gguf", bytes.clone());
    let source = format!("https://localhost:{}/m.gguf", server.address.port());

    let last = Cache::new().run(&source).await.failed(1);
    assert!(last.contains("SSL_CERT_FILE"), "{last}");
    assert_eq!(server.seen().len(), 0);

    let cache = Cache::new();
    let authority = cache.path().join("authority.pem");
    std::fs::write(&authority, &pem).unwrap();
    let by_text = Cache::new().with("SSL_CERT_PEM", pem);
    by_text.run(&source).await.done();
    assert_eq!(by_text.file("m.gguf"), bytes);
    let cache = cache.with("SSL_CERT_FILE", authority.display());
    cache.run(&source).await.done();
    assert_eq!(cache.file("m.gguf"), bytes);

    // Nothing vouches for what comes over http://.
    let plain = Server::start().await;
    plain.put("/m.gguf", "x");
    server.redirect("/moved.gguf", &plain.url("/m.gguf"));
    let moved = source.replace("m.gguf", "moved.gguf");
    let last = cache.run(&moved).await.failed(1);
    assert!(last.contains("redirects from https://"), "{last}");
    assert_eq!(plain.seen().len(), 0);
}

#[tokio::test]
async fn a_file_without_certificates_is_a_wrong_argument() {
    let cache = Cache::new();
    let empty = cache.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let cache = cache.with("SSL_CERT_FILE", empty.display());
    let last = cache.run("https://localhost/m.gguf").await.failed(2);
    assert!(last.contains("has no certificate"), "{last}");
    for (text, words) in [
        ("no PEM", "SSL_CERT_PEM has no certificate"),
        (&*"x".repeat(100 << 10), "SSL_CERT_PEM has more than 65536 bytes"),
    ] {
        let cache = Cache::new().with("SSL_CERT_PEM", text);
        let last = cache.run("https://localhost/m.gguf").await.failed(2);
        assert!(last.contains(words), "{last}");
    }
}
