//! The program by itself: what reaches it as it would without Ebb in front, and how it ends.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ebb_tests::binaries::binary;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::{MODEL, PATH};

/// Above any start or answer of these tests.
const PATIENCE: Duration = Duration::from_mins(1);

/// The program, ready, and where it listens.
async fn started() -> anyhow::Result<(Child, String)> {
    let mut command = Command::new(binary("ebb-embeddings"));
    command.env("PORT", "0").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let line = timeout(PATIENCE, lines.next_line()).await??.context("it ended")?;
    let address = line.rsplit_once(' ').context("no address")?.1.to_owned();
    Ok((child, address))
}

/// A connection with a request on it, whose answer ends it.
async fn sent(address: &str, framing: &str, body: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{framing}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    Ok(stream)
}

async fn answer(mut stream: TcpStream) -> anyhow::Result<String> {
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await??;
    Ok(text)
}

fn length(body: &str) -> String {
    format!("content-length: {}", body.len())
}

#[tokio::test]
async fn the_sentence_model_takes_bodies_in_pieces_and_says_which_it_does_not_take()
-> anyhow::Result<()> {
    let (_child, address) = started().await?;
    let body = json!({"model": MODEL, "input": "hello world"}).to_string();
    let (start, end) = body.split_at(20);
    let chunked = "transfer-encoding: chunked";
    let pieces = format!("14\r\n{start}\r\n{:x};ext\r\n{end}\r\n0\r\na: b\r\n\r\n", end.len());
    let said = answer(sent(&address, chunked, &pieces).await?).await?;
    ensure!(said.starts_with("HTTP/1.1 200 ") && said.contains(r#""prompt_tokens": 4"#), "{said}");

    // More than the sockets' buffers hold: a client that cannot send it all would not read why.
    let large = "a".repeat(16 << 20);
    let piece = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    for (framing, body, status) in [
        (&*length(&large), &*large, 413),
        (chunked, &piece, 413),
        (chunked, "zz\r\n", 400),
        (chunked, "-5\r\n", 413),
        ("content-length: no", "", 411),
        ("accept: */*", "", 411),
    ] {
        let said = answer(sent(&address, framing, body).await?).await?;
        let (head, error) = said.split_once("\r\n\r\n").context("no answer")?;
        ensure!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{framing}: {head}");
        ensure!(error.contains("invalid_request_error"), "{framing}: {error}");
    }
    // A body where none is read is not taken for the next request.
    let mut stream = TcpStream::connect(&address).await?;
    let hidden = "GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n";
    let outer = format!("GET /health HTTP/1.1\r\nhost: a\r\n{}\r\n\r\n{hidden}", length(hidden));
    stream.write_all(outer.as_bytes()).await?;
    let said = answer(stream).await?;
    assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{said}");
    Ok(())
}

#[tokio::test]
async fn the_sentence_model_answers_what_it_has_begun_before_it_ends() -> anyhow::Result<()> {
    let (mut child, address) = started().await?;
    // Some seconds of work.
    let body = json!({"model": MODEL, "input": vec!["word ".repeat(250); 12]}).to_string();
    let stream = sent(&address, &length(&body), &body).await?;
    sleep(Duration::from_millis(500)).await;
    kill(Pid::from_raw(i32::try_from(child.id().context("it runs")?)?), Signal::SIGTERM)?;
    let said = answer(stream).await?;
    ensure!(said.starts_with("HTTP/1.1 200 "), "{}", &said[..said.len().min(200)]);
    ensure!(said.contains(r#""index": 11"#), "a part of the answer is missing");
    let status = timeout(PATIENCE, child.wait()).await??;
    assert_eq!(status.code(), Some(0));
    Ok(())
}
