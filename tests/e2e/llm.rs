//! A real language model, as its manifest deploys it: llama.cpp's server with SmolLM2.

use std::time::Duration;

use anyhow::Context as _;
use ebb_tests::client::Client;
use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::example;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

mod sdk;

const PATH: &str = "/v1/chat/completions";
/// How soon the engine must be free again when a client has left: well before its answer would end. On
/// an idle machine it takes less than a second; beside other tests the engine answers late how it is.
const FREE_WITHIN: Duration = Duration::from_secs(6);

/// Ebb with the model, ready; it falls asleep after 6 s.
async fn deployed() -> anyhow::Result<Ebb> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    let manifest = example("llm")?.replace("window: 30s", "window: 6s");
    kubectl.apply(&manifest).await?;
    kubectl.wait_ready("llm").await?;
    Ok(ebb)
}

fn question(max_tokens: u32) -> String {
    json!({
        "model": "smollm2", "stream": true, "max_tokens": max_tokens,
        "stream_options": {"include_usage": true},
        // The same words each time, and as many tokens as were asked for: the model would end sooner at
        // times. The latter is llama.cpp's own field.
        "temperature": 0, "ignore_eos": true,
        "messages": [{"role": "user", "content": "Count from one to a thousand."}],
    })
    .to_string()
}

/// How many of the engine's slots have a request.
async fn busy_slots(client: &Client, host: &str) -> anyhow::Result<usize> {
    let slots = client.get(host, "/slots").await?.json()?;
    let slots = slots.as_array().context("no slots")?;
    Ok(slots.iter().filter(|slot| slot["is_processing"] == true).count())
}

#[tokio::test]
async fn a_language_model_wakes_and_streams_its_tokens() -> anyhow::Result<()> {
    let ebb = deployed().await?;
    ebb.kubectl().wait_asleep("llm").await;
    let answer = ebb.client().post(&ebb.host("llm"), PATH, question(12).into()).await?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let timing = answer.headers["server-timing"].to_str()?;
    assert!(timing.contains("queue;dur="), "it was asleep: {timing}");
    let chunks = answer.text.lines().filter_map(|line| line.strip_prefix("data: "));
    let chunks: Vec<_> = chunks.collect();
    assert_eq!(chunks.last(), Some(&"[DONE]"), "{}", answer.text);
    let chunks: Vec<Value> =
        chunks.iter().filter_map(|chunk| serde_json::from_str(chunk).ok()).collect();
    let words = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    assert!(words.clone().count() > 3 && words.map(str::len).sum::<usize>() > 0, "{}", answer.text);
    let usage = chunks.iter().find_map(|chunk| chunk["usage"]["completion_tokens"].as_u64());
    assert_eq!(usage, Some(12), "{}", answer.text);
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_in_mid_stream_frees_the_engine() -> anyhow::Result<()> {
    let ebb = deployed().await?;
    let (client, host) = (ebb.client(), ebb.host("llm"));
    assert_eq!(client.get(&host, "/health").await?.status, 200);
    let mut stream = TcpStream::connect(ebb.gateway).await?;
    // Some 20 s of answer.
    let body = question(900);
    let length = body.len();
    let request =
        format!("POST {PATH} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{request}{body}").as_bytes()).await?;
    let mut first = [0; 4096];
    let read = timeout(Duration::from_mins(1), stream.read(&mut first)).await??;
    let head = String::from_utf8_lossy(&first[..read]).into_owned();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(busy_slots(&client, &host).await?, 1);
    drop(stream);
    let left = Instant::now();
    while busy_slots(&client, &host).await? > 0 {
        assert!(left.elapsed() < FREE_WITHIN, "the engine goes on for nobody");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
