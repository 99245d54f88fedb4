//! The limit of a cache: who goes, and who stays.

use std::time::{Duration, SystemTime};

use crate::process::{Cache, Ended};
use crate::server::{Server, noise};
use crate::web::source;

const LIMIT: [&str; 4] = ["--allow-network", "127.0.0.0/8", "--limit", "250Ki"];

/// Fetches a model of 100 KiB.
async fn fetch(server: &Server, cache: &Cache, name: &str) -> Ended {
    let bytes = noise(100 << 10, name.len() as u64);
    let path = format!("/{name}.bin");
    server.put(&path, bytes.clone());
    cache.run_with(&source(server, &path, &bytes), &LIMIT).await
}

/// The key of a model, by its name.
fn key(cache: &Cache, name: &str) -> Option<String> {
    cache.keys().into_iter().find(|key| key.contains(&format!("-{name}-bin-")))
}

/// Sets the last use of a model to some seconds ago.
fn used(cache: &Cache, name: &str, ago: u64) {
    let key = key(cache, name).unwrap();
    let record = std::fs::File::open(cache.path().join(format!("{key}.json"))).unwrap();
    record.set_modified(SystemTime::now() - Duration::from_secs(ago)).unwrap();
}

#[tokio::test]
async fn the_least_recently_used_goes_and_the_used_one_stays() {
    let server = Server::start().await;
    let cache = Cache::new();
    fetch(&server, &cache, "a").await.done();
    fetch(&server, &cache, "bb").await.done();
    used(&cache, "a", 100);
    used(&cache, "bb", 50);
    fetch(&server, &cache, "ccc").await.done();
    assert_eq!(key(&cache, "a"), None, "the oldest stays");
    let second = key(&cache, "bb").expect("a younger one went");

    used(&cache, "ccc", 10);
    let lock = std::fs::File::open(cache.path().join(format!("{second}.used"))).unwrap();
    lock.lock_shared().unwrap();
    fetch(&server, &cache, "dddd").await.done();
    assert_eq!(key(&cache, "bb"), Some(second), "a model in use went");
    assert_eq!(key(&cache, "ccc"), None);
    let left = std::fs::read_dir(cache.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(".gone"));
    assert_eq!(left.count(), 0);

    let used =
        std::fs::File::open(cache.path().join(format!("{}.used", key(&cache, "dddd").unwrap())));
    used.as_ref().unwrap().lock_shared().unwrap();
    let last = fetch(&server, &cache, "eeeee").await.failed(1);
    assert!(
        last.contains("needs 100Ki of the 250Ki") && last.contains("in use take 200Ki"),
        "{last}"
    );
}

#[tokio::test]
async fn a_damaged_model_that_somebody_uses_stays_until_nobody_does() {
    let server = Server::start().await;
    let cache = Cache::new();
    fetch(&server, &cache, "a").await.done();
    std::fs::write(cache.model().join("a.bin"), "damaged").unwrap();
    let user = std::fs::File::open(cache.model().with_extension("used")).unwrap();
    user.lock_shared().unwrap();
    let last = fetch(&server, &cache, "a").await.failed(1);
    assert!(last.contains("another process uses it: stop what uses it"), "{last}");
    assert_eq!(cache.file("a.bin"), b"damaged");
    drop(user);
    fetch(&server, &cache, "a").await.done();
    assert_eq!(cache.file("a.bin").len(), 100 << 10);
}

#[tokio::test]
async fn several_that_find_a_damaged_model_replace_it_once() {
    let server = Server::start().await;
    let cache = Cache::new();
    fetch(&server, &cache, "a").await.done();
    std::fs::write(cache.model().join("a.bin"), "damaged").unwrap();
    let source = source(&server, "/a.bin", &noise(100 << 10, 1));
    // All of them wait before one goes on.
    let lock = std::fs::File::open(cache.model().with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let children: Vec<_> = (0..4).map(|_| cache.start(&source)).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(lock);
    for child in children {
        crate::process::end(child).await.done();
    }
    assert_eq!(cache.file("a.bin").len(), 100 << 10);
    assert_eq!(server.asked("/a.bin"), 2);
}

/// A volume that is mounted read-only, as far as rights can stand for it: root needs another user.
#[tokio::test]
async fn a_whole_model_is_taken_from_a_cache_that_cannot_be_written() {
    let server = Server::start().await;
    let cache = Cache::new();
    fetch(&server, &cache, "a").await.done();
    let set = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(cache.path(), mode).unwrap();
    };
    let other = tempfile::tempdir().unwrap();
    let program = other.path().join("ebb-fetch");
    std::fs::copy(env!("CARGO_BIN_EXE_ebb-fetch"), &program).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(other.path(), mode).unwrap();
    let bytes = noise(100 << 10, 1);
    for removed in [None, Some("used")] {
        if let Some(end) = removed {
            std::fs::remove_file(cache.model().with_extension(end)).unwrap();
        }
        set(0o555);
        let mut command = tokio::process::Command::new(&program);
        command.env_clear().arg(source(&server, "/a.bin", &bytes)).arg("--cache").arg(cache.path());
        if nix::unistd::geteuid().is_root() {
            command.uid(65534);
        }
        let ended = command.output().await.unwrap();
        set(0o755);
        assert!(ended.status.success(), "{ended:?}");
    }
    assert_eq!(server.asked("/a.bin"), 1);
}

/// People keep other things beside their models.
#[tokio::test]
async fn what_is_no_model_stays() {
    let server = Server::start().await;
    let cache = Cache::new();
    let notes = cache.path().join("notes");
    std::fs::create_dir(&notes).unwrap();
    std::fs::write(notes.join("large"), noise(200 << 10, 1)).unwrap();
    std::fs::write(cache.path().join("notes.json"), "{}").unwrap();
    fetch(&server, &cache, "a").await.done();
    fetch(&server, &cache, "bb").await.done();
    used(&cache, "a", 100);
    fetch(&server, &cache, "ccc").await.done();
    assert_eq!(key(&cache, "a"), None);
    assert!(notes.join("large").exists() && cache.path().join("notes.json").exists());
}

#[tokio::test]
async fn a_model_that_never_fits_removes_nobody() {
    let server = Server::start().await;
    let cache = Cache::new();
    fetch(&server, &cache, "a").await.done();
    let large = noise(300 << 10, 9);
    for (path, headers) in
        [("/large.bin", vec![]), ("/grows.bin", vec![("x-without-length", "1".to_owned())])]
    {
        server.put_as(path, 200, &headers, large.clone());
        let ended = cache.run_with(&source(&server, path, &large), &LIMIT).await;
        assert!(ended.failed(1).contains("raise its limit"), "{}", ended.output);
    }
    assert!(key(&cache, "a").is_some());
}

#[tokio::test]
async fn the_cache_may_be_named_from_here() {
    let server = Server::start().await;
    server.put("/m.bin", "x");
    let cache = Cache::new();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ebb-fetch"));
    command.env_clear().current_dir(cache.path()).arg(source(&server, "/m.bin", b"x"));
    let ended =
        command.args(["--cache", "inside", "--allow-network", "127.0.0.1/32"]).output().await;
    assert!(ended.as_ref().unwrap().status.success(), "{ended:?}");
    assert!(cache.path().join("inside").is_dir());
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_is_said_so() {
    let server = Server::start().await;
    let cache = Cache::new();
    std::fs::write(cache.path().join("file"), "").unwrap();
    server.put("/m.bin", "x");
    let source = source(&server, "/m.bin", b"x");
    let inside = cache.path().join("file/inside");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ebb-fetch"));
    let output =
        command.env_clear().arg(&source).arg("--cache").arg(&inside).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("file"), "{text}");
    assert_eq!(server.seen().len(), 0);
}
