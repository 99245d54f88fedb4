//! Addresses that nothing is fetched from, however they are reached.

use crate::process::{Cache, LOOPBACK};
use crate::server::Server;
use crate::web::source;

#[tokio::test]
async fn loopback_is_refused_unless_it_is_allowed() {
    let server = Server::start().await;
    server.put("/m.gguf", "x");
    let port = server.address.port();
    // How the URL is read before its address is looked at is no way around it.
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "127.1", "0.0.0.0"] {
        let source = format!("http://{host}:{port}/m.gguf#sha256={}", crate::server::sha256(b"x"));
        let last = Cache::new().run_with(&source, &[]).await.failed(1);
        assert!(last.contains("models are not fetched from"), "{host}: {last}");
    }
    for host in ["127.0.0.1\\", "me@127.0.0.1", "127.0.0.1:x"] {
        let source = format!("http://{host}:{port}/m.gguf#sha256={}", crate::server::sha256(b"x"));
        let last = Cache::new().run_with(&source, &[]).await.failed(2);
        assert!(last.contains("is no URL of a file"), "{host}: {last}");
    }
    let last = Cache::new().run_with(&source(&server, "/m.gguf", b"x"), &[]).await.failed(1);
    assert!(last.contains("a loopback address"), "{last}");
    assert_eq!(server.seen().len(), 0);
    Cache::new().run(&source(&server, "/m.gguf", b"x")).await.done();
}

#[tokio::test]
async fn a_redirect_to_a_refused_address_is_not_followed() {
    let server = Server::start().await;
    for target in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://0.0.0.0:1/",
    ] {
        server.redirect("/m.gguf", target);
        let last = Cache::new().run(&source(&server, "/m.gguf", b"x")).await.failed(1);
        assert!(last.contains("models are not fetched from"), "{target}: {last}");
    }
    let other = Server::start().await;
    // One address of loopback is allowed, and the redirect's target is another one.
    server.redirect("/m.gguf", &format!("http://127.0.0.2:{}/", other.address.port()));
    let one = ["--allow-network", "127.0.0.1/32"];
    let last = Cache::new().run_with(&source(&server, "/m.gguf", b"x"), &one).await.failed(1);
    assert!(last.contains("127.0.0.2"), "{last}");
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn redirects_end() {
    let server = Server::start().await;
    server.redirect("/m.gguf", &server.url("/m.gguf"));
    let last = Cache::new().run(&source(&server, "/m.gguf", b"x")).await.failed(1);
    assert!(last.contains("redirects more than 10 times"), "{last}");
    assert_eq!(server.asked("/m.gguf"), 11);
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_not_asked() {
    let (server, proxy) = (Server::start().await, Server::start().await);
    server.put("/m.gguf", "x");
    let cache = Cache::new()
        .with("http_proxy", proxy.url(""))
        .with("HTTP_PROXY", proxy.url(""))
        .with("ALL_PROXY", proxy.url(""));
    cache.run_with(&source(&server, "/m.gguf", b"x"), &LOOPBACK).await.done();
    assert_eq!(proxy.seen().len(), 0);
}
