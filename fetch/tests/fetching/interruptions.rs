//! Ends at any moment: kill -9, SIGTERM, several processes at once, files that change.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;

use crate::hub::{COMMIT, publish};
use crate::process::{Cache, end, until};
use crate::server::{Server, noise};
use crate::web::source;

const MIB: usize = 1 << 20;
/// What one end may cost: bytes that wait to be written, and those on their way.
const LOST_BYTES_MAX: u64 = 3 << 20;

fn signal(child: &Child, signal: Signal) {
    let id = Pid::from_raw(child.id().unwrap().try_into().unwrap());
    kill(id, signal).unwrap();
}

/// Kills fetches in the middle, each further on than the one before; how often.
async fn kill_in_the_middle(cache: &Cache, source: &str, marks: &[usize]) -> u64 {
    for mark in marks {
        let mut child = cache.start(source);
        let mark = (mark * MIB) as u64;
        until("the next megabytes", || cache.begun() >= mark).await;
        signal(&child, Signal::SIGKILL);
        child.wait().await.unwrap();
        assert_eq!(cache.keys(), Vec::<String>::new(), "half a model appeared");
    }
    marks.len() as u64
}

#[tokio::test]
async fn kill_9_again_and_again_costs_next_to_nothing() {
    let server = Server::start().await;
    let files = vec![
        ("a.bin", noise(16 * MIB, 1)),
        ("b.bin", noise(16 * MIB, 2)),
        ("c.json", b"{}".to_vec()),
    ];
    publish(&server, &files);
    server.pace(Duration::from_millis(5));
    let cache = Cache::new().with("HF_ENDPOINT", server.url(""));
    let kills = kill_in_the_middle(&cache, "hf://org/model", &[6, 12, 18, 24, 28]).await;
    cache.run("hf://org/model").await.done();
    for (name, bytes) in &files {
        assert!(cache.file(name) == *bytes, "{name} differs");
    }
    // Of two files at once. Without going on it would be three times as much.
    let most = 32 * MIB as u64 + kills * 2 * LOST_BYTES_MAX;
    let lists = 10_000;
    assert!(server.served() <= most + lists, "{} bytes were sent, {most} at most", server.served());
}

/// The record is written before the folder appears.
#[tokio::test]
async fn an_end_between_the_record_and_the_folder_costs_nothing() {
    let server = Server::start().await;
    publish(&server, &[("a.bin", noise(8 * MIB, 1))]);
    server.pace(Duration::from_millis(5));
    let cache = Cache::new().with("HF_ENDPOINT", server.url(""));
    kill_in_the_middle(&cache, "hf://org/model", &[3]).await;
    let named = |end: &str| {
        let paths = std::fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path());
        paths.into_iter().find(|path| path.to_str().unwrap().ends_with(end)).unwrap()
    };
    let (journal, partial) = (named(".journal"), named(".partial"));
    let text = std::fs::read(&journal).unwrap();
    cache.run("hf://org/model").await.done();
    std::fs::rename(cache.model(), partial).unwrap();
    std::fs::write(journal, text).unwrap();
    let before = server.asked(&format!("/org/model/resolve/{COMMIT}/a.bin"));
    cache.run("hf://org/model").await.done();
    assert_eq!(server.asked(&format!("/org/model/resolve/{COMMIT}/a.bin")), before);
    assert!(cache.file("a.bin") == noise(8 * MIB, 1));
}

#[tokio::test]
async fn a_file_without_a_checksum_of_its_server_is_gone_on_with_by_its_tag() {
    let server = Server::start().await;
    let bytes = noise(16 * MIB, 1);
    server.put("/m.bin", bytes.clone());
    server.pace(Duration::from_millis(5));
    let source = source(&server, "/m.bin", &bytes);
    let cache = Cache::new();
    let kills = kill_in_the_middle(&cache, &source, &[4, 9]).await;
    cache.run(&source).await.done();
    assert!(cache.file("m.bin") == bytes);
    let most = 16 * MIB as u64 + kills * LOST_BYTES_MAX;
    assert!(server.served() <= most, "{} bytes were sent, {most} at most", server.served());
}

#[tokio::test]
async fn a_file_that_changed_comes_anew() {
    let server = Server::start().await;
    let (old, new) = (noise(16 * MIB, 1), noise(15 * MIB, 2));
    server.put("/m.bin", old);
    server.pace(Duration::from_millis(5));
    let source = source(&server, "/m.bin", &new);
    let cache = Cache::new();
    kill_in_the_middle(&cache, &source, &[4]).await;
    server.put("/m.bin", new.clone());
    server.pace(Duration::ZERO);
    cache.run(&source).await.done();
    assert!(cache.file("m.bin") == new);
    // The part of the old file was asked to go on, and all of the new one came in the same answer.
    assert_eq!(server.asked("/m.bin"), 2);
    assert!(server.seen()[1].headers.contains_key("range"));
}

/// Some servers make the tag of a file of its time alone.
#[tokio::test]
async fn a_file_of_another_size_is_another_one_whatever_its_tag_says() {
    let server = Server::start().await;
    let (old, new) = (noise(16 * MIB, 1), noise(15 * MIB, 2));
    let tag = [("etag", "\"same\"".to_owned())];
    server.put_as("/m.bin", 200, &tag, old);
    server.pace(Duration::from_millis(5));
    let source = source(&server, "/m.bin", &new);
    let cache = Cache::new();
    kill_in_the_middle(&cache, &source, &[4]).await;
    server.put_as("/m.bin", 200, &tag, new.clone());
    server.pace(Duration::ZERO);
    let ended = cache.run(&source).await.done();
    assert!(ended.output.contains("the file changed on its server"), "{}", ended.output);
    assert!(cache.file("m.bin") == new);
}

#[tokio::test]
async fn a_body_that_ends_before_the_listed_size_is_gone_on_with() {
    let server = Server::start().await;
    let bytes = noise(300_000, 1);
    publish(&server, &[("a.json", b"{}".to_vec()), ("b.bin", bytes.clone())]);
    let path = format!("/org/model/resolve/{COMMIT}/b.bin");
    let whole = server.state.lock().files[&path].clone();
    let without_length = [("x-without-length", "1".to_owned())];
    server.put_as(&path, 200, &without_length, bytes[..100_000].to_vec());
    let cache = Cache::new().with("HF_ENDPOINT", server.url(""));
    let child = cache.start("hf://org/model/b.bin");
    until("the first answer", || server.asked(&path) == 1).await;
    server.put_as(&path, 200, &whole.headers, whole.body);
    let ended = end(child).await.done();
    assert!(ended.output.contains("ended a file before its end"), "{}", ended.output);
    assert!(cache.file("b.bin") == bytes);

    // One that does not end where it should is not written to the disk's last byte.
    server.put_as(&path, 200, &without_length, noise(900_000, 1));
    let last = Cache::new().with("HF_ENDPOINT", server.url(""));
    let last = last.run("hf://org/model/b.bin").await.failed(1);
    assert!(last.contains("sent more of a file than it said"), "{last}");
}

#[tokio::test]
async fn a_damaged_part_comes_anew() {
    let server = Server::start().await;
    let bytes = noise(8 * MIB, 1);
    server.put("/m.bin", bytes.clone());
    server.pace(Duration::from_millis(5));
    let source = source(&server, "/m.bin", &bytes);
    let cache = Cache::new();
    kill_in_the_middle(&cache, &source, &[3]).await;
    let partial = std::fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path());
    let partial =
        partial.into_iter().find(|path| path.to_str().unwrap().ends_with(".partial")).unwrap();
    let file = partial.join("m.bin");
    let mut damaged = std::fs::read(&file).unwrap();
    damaged[1000] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    server.pace(Duration::ZERO);
    cache.run(&source).await.done();
    assert!(cache.file("m.bin") == bytes);
}

#[tokio::test]
async fn a_server_without_ranges_or_tags_sends_it_again() {
    let server = Server::start().await;
    let bytes = noise(6 * MIB, 1);
    server.put_as("/m.bin", 200, &[("accept-ranges", "none".to_owned())], bytes.clone());
    server.pace(Duration::from_millis(5));
    let source = source(&server, "/m.bin", &bytes);
    let cache = Cache::new();
    kill_in_the_middle(&cache, &source, &[3]).await;
    cache.run(&source).await.done();
    assert!(cache.file("m.bin") == bytes);
    assert!(server.seen().iter().all(|seen| !seen.headers.contains_key("range")));
}

#[tokio::test]
async fn sigterm_ends_it_at_once_and_keeps_what_came() {
    let server = Server::start().await;
    let bytes = noise(32 * MIB, 1);
    server.put("/m.bin", bytes.clone());
    server.pace(Duration::from_millis(20));
    let source = source(&server, "/m.bin", &bytes);
    let cache = Cache::new();
    let child = cache.start(&source);
    until("some megabytes", || cache.begun() >= 2 * MIB as u64).await;
    signal(&child, Signal::SIGTERM);
    let began = tokio::time::Instant::now();
    let last = end(child).await.failed(1);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(last.contains("the next one goes on from there"), "{last}");
    assert!(cache.begun() >= 2 * MIB as u64);
    let progress = cache.json(".progress");
    assert_eq!(progress["phase"], "failed");
    assert!(progress["error"].as_str().unwrap().contains("told to stop"), "{progress}");
}

#[tokio::test]
async fn two_processes_at_once_download_once() {
    let server = Server::start().await;
    let bytes = noise(8 * MIB, 1);
    server.put("/m.bin", bytes.clone());
    server.pace(Duration::from_millis(5));
    let source = source(&server, "/m.bin", &bytes);
    let cache = Cache::new();
    let children: Vec<_> = (0..3).map(|_| cache.start(&source)).collect();
    let mut output = String::new();
    for child in children {
        output += &end(child).await.done().output;
    }
    assert_eq!(server.asked("/m.bin"), 1);
    assert_eq!(server.served(), bytes.len() as u64);
    assert_eq!(output.matches("is fetched").count(), 1, "{output}");
    assert_eq!(output.matches("Another process fetches").count(), 2, "{output}");
    assert!(cache.file("m.bin") == bytes);
}

#[tokio::test]
async fn progress_is_told_to_programs_and_logs() {
    let server = Server::start().await;
    let bytes = noise(8 * MIB, 1);
    server.put("/m.bin", bytes.clone());
    server.pace(Duration::from_millis(60));
    let source = source(&server, "/m.bin", &bytes);
    let cache = Cache::new();
    let child = cache.start(&source);
    until("a file of progress with bytes", || {
        let files = std::fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut progress =
            files.filter(|path| path.extension().is_some_and(|end| end == "progress"));
        let text = progress.next().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        value["phase"] == "downloading"
            && value["total"] == bytes.len()
            && value["done"].as_u64().is_some_and(|done| done > 0)
            && value["error"].is_null()
    })
    .await;
    let output = end(child).await.done().output;
    let line = output.lines().find(|line| line.starts_with("Downloading: ")).unwrap();
    assert!(line.contains("% of 8Mi at ") && line.ends_with(" left"), "{line}");
}
