//! The outer and the inner door: a host that is not for a door is unknown there.

use http::header::{DATE, HOST};
use serde_json::json;
use tokio::time::{Duration, Instant};

use super::fixture::*;
use crate::WatchChange;
use crate::route::Door;

/// A private route `priv` with a tag, to the revision that the world has.
fn private_route() -> ebb_api::serving::Route {
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Route",
        "metadata": {
            "name": "priv", "namespace": "default",
            "labels": {"networking.knative.dev/visibility": "cluster-local"},
        },
        "spec": {},
        "status": {
            "url": "http://priv.default.svc.cluster.local",
            "traffic": [{
                "revisionName": "digits-00001", "percent": 100, "tag": "blue",
                "url": "http://blue-priv.default.svc.cluster.local",
            }],
        },
    }))
    .unwrap()
}

/// Status, headers, body and how long it took.
async fn answer(world: &World, door: Door, host: &str) -> (String, Duration) {
    let begun = Instant::now();
    let mut request = get();
    request.headers_mut().insert(HOST, host.parse().unwrap());
    let mut response = world.send_at(door, request).await;
    let took = begun.elapsed();
    response.headers_mut().remove(DATE);
    let head = format!("{} {:?}", response.status(), response.headers());
    (format!("{head} {}", text(response).await), took)
}

/// Formerly the model answered `curl -H 'Host: priv.default.svc.cluster.local' GATEWAY`.
#[tokio::test(start_paused = true)]
async fn a_private_host_is_told_from_none_by_nothing_at_the_outer_door() {
    let world = World::new(json!({}));
    world.start(1, echo("hello"));
    world.activator.change_routes([WatchChange::Applied(private_route())]);
    let unknown = answer(&world, Door::Outer, "nobody.default.example.com").await;
    assert!(unknown.0.starts_with("404"), "{unknown:?}");
    for name in ["priv", "blue-priv", "digits"] {
        for domain in ["default", "default.svc", "default.svc.cluster.local"] {
            let host = format!("{name}.{domain}");
            // The same to the byte, after the same wait for news.
            assert_eq!(answer(&world, Door::Outer, &host).await, unknown, "{host}");
            let written = format!("{}.:80", host.to_uppercase());
            assert_eq!(answer(&world, Door::Outer, &written).await, unknown, "{written}");
            let inside = answer(&world, Door::Inner, &host).await.0;
            assert!(inside.starts_with("200") && inside.ends_with("hello"), "{host}: {inside}");
        }
    }
    for door in [Door::Outer, Door::Inner] {
        assert!(answer(&world, door, super::fixture::HOST).await.0.starts_with("200"), "{door:?}");
    }
}
