//! The routes as a client sees them, with time paused: paces and limits are exact.

#![allow(clippy::unwrap_used, reason = "a helper that fails has failed its test")]

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use clap::Parser;
use ebb_chat::server;
use ebb_chat::settings::ChatSettings;
use futures::StreamExt;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

/// Ten tokens a second, two generations at a time.
fn engine() -> Router {
    let flags = ["ebb-chat", "--tokens-per-second=10", "--concurrency=2", "--answer-tokens=20"];
    server::router(ChatSettings::parse_from(flags))
}

async fn ask(router: &Router, method: &str, path: &str, body: Body) -> (StatusCode, Body) {
    let request = Request::builder().method(method).uri(path).body(body).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    (response.status(), response.into_body())
}

async fn json_of(answer: (StatusCode, Body)) -> (StatusCode, Value) {
    let bytes = answer.1.collect().await.unwrap().to_bytes();
    (answer.0, serde_json::from_slice(&bytes).unwrap())
}

async fn get(router: &Router, path: &str) -> (StatusCode, Value) {
    json_of(ask(router, "GET", path, Body::empty()).await).await
}

/// A chat request with `more` fields.
fn question(more: &Value) -> Body {
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "How are you?"}]},
    ]);
    let mut body = json!({"model": "chat", "messages": messages, "temperature": 0.5});
    for (field, value) in more.as_object().unwrap() {
        body[field] = value.clone();
    }
    Body::from(body.to_string())
}

async fn chat(router: &Router, more: &Value) -> (StatusCode, Body) {
    ask(router, "POST", "/v1/chat/completions", question(more)).await
}

/// The `data:` lines of a stream.
async fn events(body: Body) -> Vec<String> {
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn an_answer_takes_its_time_says_what_it_is_and_counts_its_tokens() {
    let (router, started) = (engine(), Instant::now());
    let (status, answer) = json_of(chat(&router, &json!({})).await).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(started.elapsed().as_millis(), 2000);
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(
        choice["message"]["content"],
        "I am ebb-chat, a simulator: no language model is behind this answer. \
         You wrote: \"How are you?\". These words only"
    );
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 20, "total_tokens": 25});
    assert_eq!(answer["usage"], usage);
    assert_eq!(answer["object"], "chat.completion");
}

#[tokio::test(start_paused = true)]
async fn max_tokens_cuts_an_answer_and_ignore_eos_makes_it_as_long() {
    let router = engine();
    for (more, tokens, reason) in [
        (json!({"max_tokens": 3}), 3, "length"),
        (json!({"max_tokens": 9, "max_completion_tokens": 4}), 4, "length"),
        (json!({"max_tokens": 500}), 20, "stop"),
        (json!({"max_tokens": 500, "ignore_eos": true}), 500, "length"),
    ] {
        let (_, answer) = json_of(chat(&router, &more).await).await;
        assert_eq!(answer["usage"]["completion_tokens"], tokens, "{more}");
        assert_eq!(answer["choices"][0]["finish_reason"], reason, "{more}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_carries_the_same_text_token_by_token_and_ends_with_done() {
    let router = engine();
    let (_, whole) = json_of(chat(&router, &json!({})).await).await;
    let streamed = json!({"stream": true, "stream_options": {"include_usage": true}});
    let mut events = events(chat(&router, &streamed).await.1).await;

    assert_eq!(events.pop().as_deref(), Some("[DONE]"));
    let mut chunks: Vec<Value> =
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let usage = chunks.pop().unwrap();
    assert_eq!(usage["usage"], whole["usage"]);
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(chunks.len(), 22, "a role, twenty tokens and an end");
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(chunks[21]["choices"][0]["finish_reason"], "stop");
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null()));
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
}

#[tokio::test(start_paused = true)]
async fn a_stream_comes_at_its_pace_and_without_usage_unless_asked() {
    let (router, started) = (engine(), Instant::now());
    let mut body = chat(&router, &json!({"stream": true})).await.1.into_data_stream();
    body.next().await.unwrap().unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO, "the role comes at once");
    for token in 1..=3 {
        body.next().await.unwrap().unwrap();
        assert_eq!(started.elapsed(), Duration::from_millis(100 * token));
    }
    let events = events(chat(&router, &json!({"stream": true})).await.1).await;
    assert!(events.iter().all(|event| !event.contains("usage")));
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_places_wait_and_stats_tell_the_most_there_were() {
    let (router, started) = (engine(), Instant::now());
    let more = json!({});
    let answers = (0..5).map(|_| chat(&router, &more));
    let answers = futures::future::join_all(answers).await;
    assert!(answers.iter().all(|(status, _)| *status == StatusCode::OK));
    assert_eq!(started.elapsed().as_millis(), 6000, "three rounds of two seconds");
    let stats = json!({"in_flight": 0, "in_flight_max": 5, "running": 0, "running_max": 2,
        "finished": 5, "abandoned": 0, "refused": 0});
    assert_eq!(get(&router, "/stats").await, (StatusCode::OK, stats));
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_queue_are_refused() {
    let router = engine();
    let mut inside: Vec<_> =
        (0..1026).map(|_| Box::pin(ask(&router, "GET", "/sleep?ms=1000", Body::empty()))).collect();
    for request in &mut inside {
        assert!(futures::poll!(request.as_mut()).is_pending());
    }
    let (status, answer) = get(&router, "/sleep?ms=1").await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer["error"]["code"], "rate_limit_exceeded");
    drop(inside);
    assert_eq!(get(&router, "/sleep?ms=1").await.0, StatusCode::OK);
    assert_eq!(get(&router, "/stats").await.1["abandoned"], 1026);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_stops_its_generation() {
    let router = engine();
    let mut body = chat(&router, &json!({"stream": true})).await.1.into_data_stream();
    body.next().await.unwrap().unwrap();
    assert_eq!(get(&router, "/stats").await.1["running"], 1);
    drop(body);
    let more = json!({});
    let whole = chat(&router, &more);
    assert!(tokio::time::timeout(Duration::from_millis(500), whole).await.is_err());
    let (_, stats) = get(&router, "/stats").await;
    assert_eq!((&stats["running"], &stats["in_flight"]), (&json!(0), &json!(0)));
    assert_eq!(stats["abandoned"], 2);
}

#[tokio::test]
async fn bad_requests_get_an_error_object() {
    let router = engine();
    let bad = StatusCode::BAD_REQUEST;
    for (more, status, param, message) in [
        (
            json!({"model": "gpt"}),
            StatusCode::NOT_FOUND,
            json!("model"),
            "The model `gpt` does not exist; this server has `chat`.",
        ),
        (
            json!({"messages": []}),
            bad,
            json!("messages"),
            "`messages` is empty; send at least one.",
        ),
        (
            json!({"max_tokens": 0}),
            bad,
            json!("max_tokens"),
            "`max_tokens` is 0; it must be from 1 to 131072.",
        ),
        (json!({"n": 2}), bad, json!("n"), "`n` is 2; only one answer at a time is simulated."),
        (
            json!({"stream_options": {}}),
            bad,
            json!("stream_options"),
            "`stream_options` is only allowed when `stream` is true.",
        ),
    ] {
        let (answered, answer) = json_of(chat(&router, &more).await).await;
        assert_eq!(answered, status, "{more}");
        let error = &answer["error"];
        assert_eq!((&error["message"], &error["param"]), (&json!(message), &param));
        assert_eq!(error["type"], "invalid_request_error");
    }
    let answer = ask(&router, "POST", "/v1/chat/completions", Body::from("{")).await;
    let (status, answer) = json_of(answer).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("The body is not a chat request: EOF"), "{message}");
    let large = Body::from(vec![b' '; (4 << 20) + 1]);
    let (status, _) = ask(&router, "POST", "/v1/chat/completions", large).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn models_are_listed_and_unknown_routes_told_in_the_same_form() {
    let router = engine();
    let model = json!({"id": "chat", "object": "model", "created": 0, "owned_by": "ebb-chat"});
    let list = json!({"object": "list", "data": [model]});
    assert_eq!(get(&router, "/v1/models").await, (StatusCode::OK, list));
    assert_eq!(get(&router, "/v1/models/chat").await, (StatusCode::OK, model));
    let (status, answer) = get(&router, "/v1/models/gpt").await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (StatusCode::NOT_FOUND, &json!("model_not_found"))
    );
    let (status, answer) = get(&router, "/v1/chat/completions").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(answer["error"]["message"], "There is no route GET /v1/chat/completions.");
    assert_eq!(ask(&router, "GET", "/health", Body::empty()).await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn the_testing_aids_pause_and_echo() {
    let (router, started) = (engine(), Instant::now());
    assert_eq!(get(&router, "/sleep?ms=250").await.1, json!({"slept_ms": 250}));
    assert_eq!(started.elapsed().as_millis(), 250);
    assert_eq!(get(&router, "/sleep?ms=600001").await.0, StatusCode::BAD_REQUEST);

    let (status, body) = ask(&router, "POST", "/echo", Body::from("as it came")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "as it came");
    assert_eq!(get(&router, "/stats").await.1["finished"], 2);

    let (_, variables) = get(&router, "/env").await;
    let names = variables.as_object().unwrap().keys();
    assert!(names.into_iter().all(|name| name == "PORT" || name.starts_with("K_")));
}

/// As vLLM: what sleeps has given its weights up, and answers no completion until it is woken.
#[tokio::test(start_paused = true)]
async fn a_model_sleeps_when_told_and_wakes_when_told() {
    let router = engine();
    let is_sleeping = async || get(&router, "/is_sleeping").await.1["is_sleeping"].clone();
    assert_eq!(is_sleeping().await, json!(false));
    let told = ask(&router, "POST", "/sleep?level=1", Body::empty()).await.0;
    assert_eq!((told, is_sleeping().await), (StatusCode::OK, json!(true)));
    assert_eq!(ask(&router, "GET", "/health", Body::empty()).await.0, StatusCode::OK);
    let (status, answer) = json_of(chat(&router, &json!({})).await).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    let began = Instant::now();
    let told = ask(&router, "POST", "/wake_up", Body::empty()).await.0;
    assert_eq!((told, is_sleeping().await), (StatusCode::OK, json!(false)));
    assert_eq!(began.elapsed(), Duration::from_millis(200));
    assert_eq!(chat(&router, &json!({})).await.0, StatusCode::OK);
}
