//! Files of web servers: checksums, tokens, retries.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::process::{Cache, LOOPBACK};
use crate::server::{Server, noise, sha256};

/// The source of a file, with its checksum: `http://` takes none without.
pub(crate) fn source(server: &Server, path: &str, bytes: &[u8]) -> String {
    format!("{}#sha256={}", server.url(path), sha256(bytes))
}

#[tokio::test]
async fn a_file_comes_with_its_checksum_and_for_any_user() {
    let server = Server::start().await;
    let bytes = noise(200_000, 1);
    server.put("/models/m.gguf?sig=querysecret", bytes.clone());
    let cache = Cache::new();
    let source = source(&server, "/models/m.gguf?sig=querysecret", &bytes);
    // Images and users set what rights new files lack.
    let inner = cache.command(&source, &LOOPBACK);
    let mut outer = tokio::process::Command::new("/bin/sh");
    outer.env_clear().args(["-c", "umask 077; exec \"$0\" \"$@\""]);
    outer.arg(inner.as_std().get_program()).args(inner.as_std().get_args());
    let piped = std::process::Stdio::piped;
    let child = outer.stdout(piped()).stderr(piped()).kill_on_drop(true).spawn().unwrap();
    let ended = crate::process::end(child).await.done();
    assert_eq!(cache.file("m.gguf"), bytes);
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(cache.model()), 0o755);
    assert_eq!(mode(cache.model().join("m.gguf")), 0o644);
    for end in ["json", "used", "lock", "progress"] {
        assert_eq!(mode(cache.model().with_extension(end)), 0o644, "{end}");
    }
    assert!(!ended.output.contains("querysecret"), "{}", ended.output);
    assert!(!cache.texts().contains("querysecret"));
}

#[tokio::test]
async fn a_wrong_checksum_leaves_nothing() {
    let server = Server::start().await;
    server.put("/m.gguf", noise(200_000, 1));
    let cache = Cache::new();
    let last = cache.run(&source(&server, "/m.gguf", b"other")).await.failed(1);
    assert!(last.contains("does not have its checksum"), "{last}");
    assert_eq!(cache.keys(), Vec::<String>::new());
    assert_eq!(cache.begun(), 0);
}

#[tokio::test]
async fn what_a_killed_fetch_leaves_has_no_secret() {
    let server = Server::start().await;
    let path = "/m.gguf?sig=querysecret";
    let bytes = noise(16 << 20, 1);
    server.put(path, bytes.clone());
    server.pace(Duration::from_millis(5));
    let cache = Cache::new().with("MODEL_TOKEN", "modelsecret");
    let mut child = cache.start(&source(&server, path, &bytes));
    crate::process::until("some megabytes", || cache.begun() >= 4 << 20).await;
    child.kill().await.unwrap();
    let left = cache.texts();
    assert!(left.contains(".journal") && left.contains(".claim"), "{left}");
    assert!(!left.contains("querysecret") && !left.contains("modelsecret"), "{left}");
}

#[tokio::test]
async fn a_token_goes_to_the_sources_own_origin_alone() {
    let (server, other) = (Server::start().await, Server::start().await);
    let bytes = noise(1000, 1);
    server.redirect("/m.gguf", &other.url("/elsewhere"));
    other.put("/elsewhere", bytes.clone());
    let cache = Cache::new().with("MODEL_TOKEN", "modelsecret");
    let ended = cache.run(&source(&server, "/m.gguf", &bytes)).await.done();
    assert_eq!(server.seen()[0].headers["authorization"], "Bearer modelsecret");
    assert!(!other.seen()[0].headers.contains_key("authorization"));
    assert!(!ended.output.contains("modelsecret"), "{}", ended.output);
}

#[tokio::test]
async fn passing_troubles_are_waited_out() {
    let server = Server::start().await;
    let bytes = noise(1000, 1);
    server.put("/m.gguf", bytes.clone());
    server.fail(503, &[]);
    server.fail(429, &[("retry-after", "2".to_owned())]);
    let cache = Cache::new();
    let began = tokio::time::Instant::now();
    let ended = cache.run(&source(&server, "/m.gguf", &bytes)).await.done();
    assert!(began.elapsed() >= Duration::from_secs(2), "Retry-After was not waited for");
    assert!(ended.output.contains("429"), "{}", ended.output);
    assert_eq!(server.asked("/m.gguf"), 3);
}

#[tokio::test]
async fn lasting_troubles_end_it_at_once() {
    let server = Server::start().await;
    for (status, words) in [(403, "MODEL_TOKEN"), (404, "check the URL"), (451, "status 451")] {
        server.put_as("/m.gguf", status, &[], "");
        let before = server.seen().len();
        let last = Cache::new().run(&source(&server, "/m.gguf", b"x")).await.failed(1);
        assert!(last.contains(words), "{last}");
        assert_eq!(server.seen().len(), before + 1);
    }
}

#[tokio::test]
async fn a_connection_without_bytes_is_given_up_and_gone_on_with() {
    let server = Server::start().await;
    let bytes = noise(3 << 20, 1);
    server.put("/m.gguf", bytes.clone());
    server.state.lock().breaks_after = Some(2 << 20);
    let cache = Cache::new();
    cache.run(&source(&server, "/m.gguf", &bytes)).await.done();
    assert_eq!(cache.file("m.gguf"), bytes);
    assert_eq!(server.asked("/m.gguf"), 2);
    assert!(server.seen()[1].headers.contains_key("if-range"), "{:?}", server.seen()[1]);

    // A stall: the first byte takes longer than the program waits.
    server.state.lock().breaks_after = None;
    server.pace(Duration::from_secs(5));
    server.put("/stalls.gguf", bytes.clone());
    let arguments = [&LOOPBACK[..], &["--idle-timeout", "1"]].concat();
    let other = Cache::new();
    let stalled = source(&server, "/stalls.gguf", &bytes);
    let child = other.command(&stalled, &arguments).spawn().unwrap();
    crate::process::until("a second attempt", || server.asked("/stalls.gguf") >= 2).await;
    server.pace(Duration::ZERO);
    let ended = crate::process::end(child).await.done();
    assert!(ended.output.contains("did not answer in time"), "{}", ended.output);
}

#[tokio::test]
async fn a_file_of_unknown_size_comes_too() {
    let server = Server::start().await;
    let bytes = noise(3_000_000, 1);
    server.put_as("/m.gguf", 200, &[("x-without-length", "1".to_owned())], bytes.clone());
    let cache = Cache::new();
    cache.run(&source(&server, "/m.gguf", &bytes)).await.done();
    assert_eq!(cache.file("m.gguf"), bytes);
}

#[tokio::test]
async fn arguments_without_sense_are_told_apart_from_failures() {
    let cache = Cache::new();
    for (source, words) in [
        ("ftp://a/b", "no place of a model"),
        ("http://example.com/m.gguf", "add #sha256"),
        ("file:///models/m.gguf", "on this machine"),
    ] {
        let last = cache.run(source).await.failed(2);
        assert!(last.contains(words), "{last}");
    }
    let last = cache.run_with("hf://a/b", &["--key", "other"]).await.failed(2);
    assert!(last.contains("is a-b-main-") && last.contains("not \"other\""), "{last}");
    let ended = cache.run_with("hf://a/b", &["--limit", "lots"]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.output);
}

/// A signature in a list of processes would be everybody's.
#[tokio::test]
async fn the_source_may_come_from_the_environment_and_be_held_to_its_key() {
    let server = Server::start().await;
    let path = "/m.gguf?sig=querysecret";
    server.put(path, "x");
    let cache = Cache::new();
    let source = source(&server, path, b"x");
    let key = ebb_api::model_source::ModelSource::parse(&source).unwrap().key();
    let start = |arguments: &[&str]| {
        let mut command = cache.command("", &[]);
        let program = command.as_std().get_program().to_owned();
        command = tokio::process::Command::new(program);
        command.env_clear().env("EBB_MODEL_SOURCE", &source).args(LOOPBACK).args(arguments);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        crate::process::end(command.spawn().unwrap())
    };
    let last = start(&["--key", &key]).await.failed(2);
    assert!(last.contains("--cache names the folder that keeps models: give it"), "{last}");
    let folder = cache.path().to_str().unwrap();
    start(&["--key", &key, "--cache", folder]).await.done();
    assert_eq!(cache.keys(), [key]);
    assert_eq!(cache.file("m.gguf"), b"x");
    let help = start(&["--help"]).await.done();
    assert!(help.output.contains("EBB_MODEL_SOURCE"), "{}", help.output);
    assert!(!help.output.contains("querysecret"), "{}", help.output);
}

/// Two URLs that differ in their query alone may hash to one key.
#[tokio::test]
async fn a_model_of_another_query_is_not_taken_for_this_one() {
    let server = Server::start().await;
    let path = "/m.gguf?v=1";
    server.put(path, "x");
    let cache = Cache::new();
    let source = source(&server, path, b"x");
    cache.run(&source).await.done();
    let record = cache.model().with_extension("json");
    let mut said = cache.json(".json");
    said["source_sha256"] = sha256(source.replace("v=1", "v=2").as_bytes()).into();
    std::fs::write(&record, said.to_string()).unwrap();
    cache.run(&source).await.done();
    assert_eq!(server.asked(path), 2);
    assert_eq!(cache.json(".json")["source_sha256"], sha256(source.as_bytes()));
}

#[tokio::test]
async fn the_reason_stands_alone_where_kubernetes_looks_for_it() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("termination-log");
    std::fs::write(&log, "something longer than the reason that was there before ".repeat(20))
        .unwrap();
    let cache = Cache::new().with("EBB_TERMINATION_LOG", log.display());
    let last = cache.run(&source(&server, "/none.gguf", b"x")).await.failed(1);
    let reason = std::fs::read_to_string(&log).unwrap();
    assert_eq!(format!("ebb-fetch: {reason}"), last);
    assert_eq!(reason.lines().count(), 1);
    // A place that is not there changes nothing.
    let cache = Cache::new().with("EBB_TERMINATION_LOG", folder.path().join("a/b").display());
    cache.run(&source(&server, "/none.gguf", b"x")).await.failed(1);
}
