//! What keys may use a minute, and what streams tell of their pace.

use futures::StreamExt as _;

use super::*;

/// Answers with this body, of this type.
fn says(media: &'static str, body: &'static str) -> Handler {
    Arc::new(move |_| {
        Box::pin(async move {
            let mut response = reply(body);
            response.headers_mut().insert("content-type", media.parse().unwrap());
            response
        })
    })
}

/// The limit of requests counts before the body is read, and one that is refused wakes nothing.
#[tokio::test(start_paused = true)]
async fn too_many_requests_are_refused_before_anything_is_read() {
    let world = guarded(r#","requests-per-minute":2"#);
    let pod = world.start(1, echo("{}"));
    for _ in 0..2 {
        assert_eq!(world.send(with_key(to("smol"), BOB)).await.status(), 200);
    }
    world.untell(1);
    world.notes.reports.lock().clear();
    let (status, code, headers) = told(&world, with_key(to("smol"), BOB)).await;
    assert_eq!((status, &*code), (429, "rate_limit_exceeded"));
    assert_eq!(headers["retry-after"], "30");
    let anthropic = request(Method::POST, "/v1/messages", r#"{"model":"smol"}"#);
    assert_eq!(told(&world, with_key(anthropic, BOB)).await.1, "rate_limit_error");
    let mut stream = world.dial();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: {MODELS}\r\nauthorization: Bearer {BOB}\r\n\
         content-length: 1000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 429"), "its body has not come");
    assert_eq!(world.queued(), 0);
    assert!(world.notes.reports.lock().iter().all(|report| report.revisions.is_empty()));
    assert_eq!(pod.served.load(Ordering::SeqCst), 2);
    // Lists are free, other keys have limits of their own, and after the wait there is another.
    let list = with_key(request(Method::GET, "/v1/models", ""), BOB);
    assert_eq!(world.send(list).await.status(), 200);
    world.tell(1, json!({}));
    assert_eq!(world.send(with_key(to("smol"), ANN)).await.status(), 200);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(world.send(with_key(to("smol"), BOB)).await.status(), 200);
    assert_eq!(world.metric(r#"key_requests_total{key="bob",model="other",code_class="4xx"}"#), 3);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_paid_for_afterwards_and_debts_refuse_the_next() {
    let world = guarded(r#","tokens-per-minute":60"#);
    let answer = r#"{"choices":[],"usage":{"prompt_tokens":70,"completion_tokens":20}}"#;
    world.start(1, says("application/json; charset=utf-8", answer));
    let response = world.send(with_key(to("smol"), BOB)).await;
    assert_eq!(text(response).await, answer, "it passes as it is");
    settle().await;
    let (status, code, headers) = told(&world, with_key(to("smol"), BOB)).await;
    assert_eq!((status, &*code), (429, "rate_limit_exceeded"));
    assert_eq!(headers["retry-after"], "31", "30 are owed, and one has to be there");
    sleep(Duration::from_secs(31)).await;
    assert_eq!(world.send(with_key(to("smol"), BOB)).await.status(), 200);
    settle().await;
    assert_eq!(world.metric(r#"key_prompt_tokens_total{key="bob",model="smol"}"#), 140);
    assert_eq!(world.metric(r#"key_completion_tokens_total{key="bob",model="smol"}"#), 40);
    // A change of the Secret forgives nothing.
    world.activator.directory().gate.change(Some(&secret(r#","tokens-per-minute":120"#)));
    assert_eq!(told(&world, with_key(to("smol"), BOB)).await.0, 429);
}

#[tokio::test(start_paused = true)]
async fn what_is_compressed_is_counted_as_a_request_alone() {
    let world = guarded("");
    let packed: Handler = Arc::new(|_| {
        Box::pin(async {
            let mut response = reply(r#"{"usage":{"prompt_tokens":7}}"#);
            response.headers_mut().insert("content-type", "application/json".parse().unwrap());
            response.headers_mut().insert("content-encoding", "br".parse().unwrap());
            response
        })
    });
    world.start(1, packed);
    assert_eq!(world.send(with_key(to("smol"), BOB)).await.status(), 200);
    settle().await;
    let metrics = world.metrics();
    assert!(metrics.contains(r#"key_requests_total{key="bob",model="smol",code_class="2xx"} 1"#));
    assert!(!metrics.contains("key_prompt_tokens_total{"), "{metrics}");
}

/// Sends the parts of a stream, each after its pause in milliseconds.
fn streams(parts: &'static [(u64, &'static str)]) -> Handler {
    Arc::new(move |_| {
        Box::pin(async move {
            let parts = futures::stream::iter(parts).then(|(pause, part)| async move {
                sleep(Duration::from_millis(*pause)).await;
                Ok::<_, std::io::Error>(hyper::body::Frame::data(Bytes::from_static(
                    part.as_bytes(),
                )))
            });
            let body = http_body_util::StreamBody::new(Box::pin(parts));
            let mut response = Response::new(http_body_util::BodyExt::boxed(body));
            response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
            response
        })
    })
}

const PIECE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";

/// Whether keys are asked for or not, streams tell their pace; and what they cost, at the latest when
/// the client leaves.
#[tokio::test(start_paused = true)]
async fn a_stream_tells_its_pace_and_what_it_has_cost() {
    let world = guarded(r#","tokens-per-minute":1000"#);
    world.start(
        1,
        streams(&[
            (0, "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"),
            (2000, PIECE),
            (300, PIECE),
            (0, "data: {\"choi"),
            (100, "ces\":[{\"delta\":{\"content\":\"b\"}}]}\n\n"),
            (0, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5}}\n\n"),
            (5000, "data: [DONE]\n\n"),
        ]),
    );
    let ask = || chat(r#"{"model":"smol","stream":true}"#);
    let whole = text(world.send(with_key(ask(), BOB)).await).await;
    assert!(whole.contains("\"b\"") && whole.ends_with("[DONE]\n\n"), "{whole}");
    settle().await;
    let float = |name: &str| {
        let (text, name) = (world.metrics(), format!("ebb_activator_{name} "));
        let line = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or("0");
        line.parse::<f64>().unwrap()
    };
    let near = |name: &str, wanted: f64| {
        assert!((float(name) - wanted).abs() < 0.01, "{name}: {}", float(name));
    };
    near(r#"time_to_first_token_seconds_sum{model="smol"}"#, 2.0);
    near(r#"time_between_tokens_seconds_sum{model="smol"}"#, 0.4);
    assert_eq!(world.metric(r#"time_between_tokens_seconds_count{model="smol"}"#), 2);
    assert_eq!(world.metric(r#"key_prompt_tokens_total{key="bob",model="smol"}"#), 9);
    assert_eq!(world.metric(r#"key_completion_tokens_total{key="bob",model="smol"}"#), 5);
    // A client that leaves after two pieces has had two tokens.
    let mut body = world.send(with_key(ask(), BOB)).await.into_body();
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    drop(body);
    settle().await;
    assert_eq!(world.metric(r#"key_completion_tokens_total{key="bob",model="smol"}"#), 7);
    world.activator.directory().gate.ask_for(None);
    assert!(text(world.send(ask()).await).await.ends_with("[DONE]\n\n"));
    settle().await;
    assert_eq!(world.metric(r#"time_to_first_token_seconds_count{model="smol"}"#), 3);
}

/// A response that began with comments is read all the same, from its first event.
#[tokio::test(start_paused = true)]
async fn a_stream_that_waited_for_its_model_is_read_as_well() {
    let world = guarded("");
    let asked = world.send(with_key(chat(r#"{"model":"smol","stream":true}"#), BOB));
    let woken = async {
        sleep(Duration::from_secs(12)).await;
        world.start(1, streams(&[(0, PIECE), (1000, PIECE)]));
    };
    let whole = async { text(asked.await).await };
    let (whole, ()) = futures::join!(whole, woken);
    assert!(whole.starts_with(": waiting for the model") && whole.ends_with(PIECE), "{whole}");
    settle().await;
    assert_eq!(world.metric(r#"time_to_first_token_seconds_count{model="smol"}"#), 1);
    let metrics = world.metrics();
    let first = metrics
        .lines()
        .find_map(|line| {
            line.strip_prefix(r#"ebb_activator_time_to_first_token_seconds_sum{model="smol"} "#)
        })
        .unwrap();
    assert!(first.parse::<f64>().unwrap() >= 12.0, "the wait counts: {first}");
    assert_eq!(world.metric(r#"key_completion_tokens_total{key="bob",model="smol"}"#), 2);
}

/// Each of two activators has half of a limit.
#[tokio::test(start_paused = true)]
async fn a_limit_is_divided_among_the_activators() {
    let pair = Pair::new(&one_at_a_time());
    declare(&pair.other, "smol");
    let gate = &pair.other.activator.directory().gate;
    gate.ask_for(Some("ebb-api-keys"));
    gate.change(Some(&secret(r#","requests-per-minute":4"#)));
    let seen: Arc<parking_lot::Mutex<Vec<HeaderMap>>> = Arc::default();
    let heads = Arc::clone(&seen);
    let answers: Handler = Arc::new(move |request| {
        heads.lock().push(request.headers().clone());
        Box::pin(async { reply("{}") })
    });
    pair.start(1, answers).await;
    for status in [200, 200, 429] {
        let response = pair.other.send(with_key(to("smol"), BOB)).await;
        assert_eq!(response.status(), status);
        text(response).await;
    }
    assert!(!format!("{:?}", seen.lock()).contains("sk-"), "the owner has passed the key on");
}
