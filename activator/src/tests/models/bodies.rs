//! Bodies at the models host: what they hold, how long, and who gives it back.

use super::*;

/// The status of the answer to a request with these header lines and this beginning of a body.
async fn status(world: &World, head: &str, body: &[u8]) -> String {
    let mut stream = world.dial();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: {MODELS}\r\n{head}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[9..read.min(12)]).into_owned()
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_too_large_too_slow_or_too_many_are_refused() {
    let world = World::new(json!({}));
    declare(&world, "smol");
    let begun = Instant::now();
    assert_eq!(status(&world, &format!("content-length: {}", 64 * MIB + 1), b"").await, "413");
    assert!(begun.elapsed() < Duration::from_secs(1), "at once, by its length");
    assert_eq!(status(&world, "content-length: 100", b"{").await, "408");
    // Nobody serves the model, so all wait; half of three quarters of 256 MiB is for them.
    let body = format!(r#"{{"model":"smol","x":"{}"}}"#, "x".repeat(40 * MIB));
    let waiting: Vec<_> = (0..2).map(|_| Box::pin(world.send(chat(body.clone())))).collect();
    let both = futures::future::join_all(waiting);
    let third = async {
        while world.queued() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(world.metric("held_bytes") > 80 * MIB as u64);
        let third = world.send(chat(body.clone())).await;
        assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(third.headers()["retry-after"], "1");
        world.start(1, echo("served"));
    };
    let (both, ()) = futures::join!(both, third);
    assert!(both.iter().all(|response| response.status() == 200));
    settle().await;
    assert_eq!(world.metric("held_bytes"), 0);
}

/// An owner that has not heard of the revision reads nothing of the body, however large that is.
#[tokio::test(start_paused = true)]
async fn a_large_body_is_served_although_the_owner_is_behind() {
    let pair = Pair::new(&one_at_a_time());
    declare(&pair.other, "smol");
    pair.start(1, mirror()).await;
    pair.owner.activator.change_revisions(WatchChange::Replaced(Vec::new()));
    let body = format!(r#"{{"model":"smol","x":"{}"}}"#, "x".repeat(3 * MIB));
    let response = pair.other.send(chat(body.clone())).await;
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await, body);
}

/// What a pod does not read is in a buffer of its connection, and still in this process.
#[tokio::test(start_paused = true)]
async fn a_body_counts_until_the_pod_has_read_it() {
    let world = World::new(json!({}));
    declare(&world, "smol, gpt=smol");
    let read = Arc::new(tokio::sync::Notify::new());
    let go = Arc::clone(&read);
    world.start(
        1,
        Arc::new(move |request| {
            let go = Arc::clone(&go);
            Box::pin(async move {
                go.notified().await;
                let body = request.into_body().collect().await.unwrap().to_bytes();
                reply(body.len().to_string())
            })
        }),
    );
    settle().await;
    for name in ["smol", "gpt"] {
        let body = format!(r#"{{"model":"{name}","x":"{}"}}"#, "x".repeat(4 * MIB));
        let length = body.len() + "smol".len() - name.len();
        let response = world.send(chat(body));
        let looks = async {
            sleep(Duration::from_secs(1)).await;
            let held = world.metric("held_bytes");
            assert!(held > 4 * MIB as u64, "{held} bytes are counted");
            read.notify_one();
        };
        let (response, ()) = futures::join!(response, looks);
        assert_eq!(text(response).await, length.to_string());
        settle().await;
        assert_eq!(world.metric("held_bytes"), 0);
    }
}

/// The type of a stream of messages buys no time.
#[tokio::test(start_paused = true)]
async fn a_body_has_to_come_at_some_pace_whatever_it_says_it_is() {
    let world = World::new(json!({}));
    declare(&world, "smol");
    let head = "content-type: application/grpc\r\ncontent-length: 100";
    assert_eq!(status(&world, head, b"{").await, "408");
    assert_eq!(world.metric("held_bytes"), 0);
    // A byte in a while is a pace that is allowed, and five minutes are the end of it.
    let mut stream = world.dial();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: {MODELS}\r\ncontent-length: 1000000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let begun = Instant::now();
    let mut answer = vec![0; 4096];
    let read = loop {
        stream.write_all(&[b' '; 512]).await.unwrap();
        tokio::select! {
            read = stream.read(&mut answer) => break read.unwrap(),
            () = sleep(Duration::from_secs(1)) => {}
        }
    };
    assert!(String::from_utf8_lossy(&answer[..read]).starts_with("HTTP/1.1 408"));
    assert!(begun.elapsed() > Duration::from_mins(4), "{:?}", begun.elapsed());
}

/// The head and the task of a request whose body never comes are counted as well.
#[tokio::test(start_paused = true)]
async fn a_request_whose_body_is_awaited_counts_with_its_head() {
    let world = World::new(json!({}));
    declare(&world, "smol");
    let mut stream = world.dial();
    let filler = "x".repeat(32 * 1024);
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: {MODELS}\r\nx-filler: {filler}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"content-length: 10\r\n\r\n").await.unwrap();
    settle().await;
    assert!(world.metric("held_bytes") > 48 * 1024, "{}", world.metric("held_bytes"));
    drop(stream);
    settle().await;
    assert_eq!(world.metric("held_bytes"), 0);
}

/// A Service is Ready for people before its Route's split has come here.
#[tokio::test(start_paused = true)]
async fn a_model_that_is_not_served_yet_is_waited_for_like_a_host() {
    let world = World::new(json!({}));
    declare(&world, "smol");
    world.start(1, echo("served"));
    let mut bare = route_of("smol");
    bare.status = None;
    world.activator.change_routes([WatchChange::Applied(bare)]);
    let list = read(world.send(request(Method::GET, "/v1/models", "")).await).await;
    assert_eq!(list["data"].as_array().unwrap().len(), 0, "its host is not known to be public");
    let response = world.send(chat(r#"{"model":"smol"}"#));
    let news = async {
        sleep(Duration::from_millis(300)).await;
        declare(&world, "smol");
    };
    let (response, ()) = futures::join!(response, news);
    assert_eq!(text(response).await, "served");
    let mut unserved = route_of("smol");
    unserved.status.as_mut().unwrap().traffic.clear();
    world.activator.change_routes([WatchChange::Applied(unserved)]);
    let response = world.send(chat(r#"{"model":"smol"}"#)).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (503, &"10".parse().unwrap())
    );
    assert_eq!(read(response).await["error"]["code"], "model-unserved");
    let list = read(world.send(request(Method::GET, "/v1/models", "")).await).await;
    assert_eq!(list["data"][0]["state"], "waking");
}
