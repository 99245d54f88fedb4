//! Written and read back through real files.

use futures::StreamExt as _;
use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex, empty};

use super::*;

fn source(restarts: i32) -> Source<'static> {
    Source { namespace: "ns", pod: "p", uid: "u", container: "c", restarts }
}

async fn written(logs: &Logs, restarts: i32, text: &'static [u8]) -> String {
    let writer = logs.begin(&source(restarts));
    writer.copy_from(text, empty()).finish().await
}

async fn read(logs: &Logs, options: LogOptions) -> String {
    let stream = logs.open("ns", "p", options).expect("the container ran");
    let chunks: Vec<Bytes> = stream.collect().await;
    String::from_utf8(chunks.concat()).expect("text")
}

fn scratch() -> (tempfile::TempDir, Logs) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let logs = Logs::new(folder.path().to_path_buf());
    (folder, logs)
}

#[tokio::test]
async fn output_is_read_back_as_it_was_written() {
    let (_folder, logs) = scratch();
    let tail = written(&logs, 0, b"one\ntwo\nthree").await;
    assert_eq!(tail, "one\ntwo\nthree");
    assert_eq!(read(&logs, LogOptions::default()).await, "one\ntwo\nthree\n");
    let last = LogOptions { tail_lines: Some(2), ..LogOptions::default() };
    assert_eq!(read(&logs, last).await, "two\nthree\n");
    let none = LogOptions { tail_lines: Some(0), ..LogOptions::default() };
    assert_eq!(read(&logs, none).await, "");
    let short = LogOptions { limit_bytes: Some(5), ..LogOptions::default() };
    assert_eq!(read(&logs, short).await, "one\nt");
    let recent = LogOptions { since_seconds: Some(60), timestamps: true, ..LogOptions::default() };
    let stamped = read(&logs, recent).await;
    assert_eq!(stamped.lines().count(), 3);
    assert!(stamped.lines().all(|line| line.split(' ').count() == 2), "{stamped}");
}

#[tokio::test]
async fn the_previous_run_is_kept_and_the_one_before_it_is_not() {
    let (folder, logs) = scratch();
    for (restarts, text) in [(0, b"a\n"), (1, b"b\n"), (2, b"c\n")] {
        written(&logs, restarts, text).await;
    }
    let previous = LogOptions { previous: true, ..LogOptions::default() };
    assert_eq!(read(&logs, previous).await, "b\n");
    assert_eq!(read(&logs, LogOptions::default()).await, "c\n");
    let files = std::fs::read_dir(folder.path().join("ns_p_u/c")).expect("the folder");
    assert_eq!(files.count(), 2);
    logs.forget("ns", "p", "u").await;
    assert!(logs.open("ns", "p", LogOptions::default()).is_err());
    assert!(!folder.path().join("ns_p_u").exists());
}

#[tokio::test]
async fn a_follower_sees_lines_as_they_come_through_rotations_and_ends_with_the_run() {
    let (_folder, logs) = scratch();
    let (mut pipe, output): (DuplexStream, _) = duplex(64);
    let task = logs.begin(&source(0)).rotate_at(200).copy_from(output, empty());
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let mut stream = logs.open("ns", "p", follow).expect("it runs");
    for number in 0..20 {
        let line = format!("line {number}\n");
        pipe.write_all(line.as_bytes()).await.expect("the writer reads");
        let seen = stream.next().await.expect("it runs");
        assert_eq!(seen, line.as_bytes());
    }
    drop(pipe);
    assert_eq!(stream.next().await, None);
    assert!(task.finish().await.ends_with("line 19"));
}

#[tokio::test]
async fn a_long_line_comes_back_whole() {
    let (_folder, logs) = scratch();
    let line = "x".repeat(40_000) + "\nshort\n";
    let writer = logs.begin(&source(0));
    let text = std::io::Cursor::new(line.clone().into_bytes());
    writer.copy_from(text, empty()).finish().await;
    assert_eq!(read(&logs, LogOptions::default()).await, line);
    let last = LogOptions { tail_lines: Some(2), ..LogOptions::default() };
    assert_eq!(read(&logs, last).await, line);
}

#[tokio::test]
async fn a_container_that_never_started_is_named() {
    let (_folder, logs) = scratch();
    written(&logs, 0, b"a\n").await;
    let other = LogOptions { container: Some("nope".to_owned()), ..LogOptions::default() };
    assert!(logs.open("ns", "p", other).is_err());
    let previous = LogOptions { previous: true, ..LogOptions::default() };
    assert!(logs.open("ns", "p", previous).is_err());
}
