//! Watches.

use std::pin::pin;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{DeleteParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::runtime::watcher::{self, Event};

use super::*;

/// The type of an event and the name of its object.
fn told(event: WatchEvent<ConfigMap>) -> String {
    let name = |object: ConfigMap| object.metadata.name.unwrap_or_default();
    match event {
        WatchEvent::Added(object) => format!("added {}", name(object)),
        WatchEvent::Modified(object) => format!("modified {}", name(object)),
        WatchEvent::Deleted(object) => format!("deleted {}", name(object)),
        WatchEvent::Bookmark(_) => "bookmark".into(),
        WatchEvent::Error(status) => format!("error {}", status.code),
    }
}

async fn label(client: &kube::Client, name: &str, value: &str) -> ConfigMap {
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "x": value } } }));
    config_maps(client).patch(name, &PatchParams::default(), &patch).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_from_a_version() {
    let (_server, client) = server();
    let first = create(&client, &config_map("a", &json!({}))).await;
    label(&client, "a", "1").await;
    create(&client, &config_map("b", &json!({}))).await;
    config_maps(&client).delete("a", &DeleteParams::default()).await.unwrap();
    let version = first.metadata.resource_version.unwrap();
    let api = config_maps(&client);
    let events = api.watch(&WatchParams::default(), &version).await.unwrap();
    let events: Vec<_> = events.take(3).map_ok(told).try_collect().await.unwrap();
    assert_eq!(events, ["modified a", "added b", "deleted a"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_with_a_selector_sees_objects_enter_and_leave() {
    let (_server, client) = server();
    let api = config_maps(&client);
    let only = WatchParams::default().labels("x=1");
    let mut events = pin!(api.watch(&only, "0").await.unwrap().map_ok(told));
    create(&client, &config_map("a", &json!({}))).await;
    label(&client, "a", "1").await;
    label(&client, "a", "2").await;
    create(&client, &config_map("b", &json!({ "x": "1" }))).await;
    for expected in ["added a", "deleted a", "added b"] {
        assert_eq!(events.try_next().await.unwrap().unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_old_is_gone() {
    let (_server, client) = server();
    let first = create(&client, &config_map("a", &json!({}))).await;
    for index in 0..1_100 {
        label(&client, "a", &index.to_string()).await;
    }
    let version = first.metadata.resource_version.unwrap();
    let api = config_maps(&client);
    let events = api.watch(&WatchParams::default(), &version).await.unwrap().map_ok(told);
    let events: Vec<_> = events.try_collect().await.unwrap();
    assert_eq!(events, ["error 410"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_told_how_far_it_has_come_while_others_are_busy() {
    let (_server, client) = server();
    let first = create(&client, &config_map("a", &json!({}))).await;
    let only = WatchParams::default().labels("x=none").timeout(150);
    let api = config_maps(&client);
    let version = first.metadata.resource_version.unwrap();
    let mut events = pin!(api.watch(&only, &version).await.unwrap().map_ok(told));
    let busy = async {
        for index in 0.. {
            label(&client, "a", &index.to_string()).await;
            tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        }
    };
    tokio::select! {
        event = events.try_next() => assert_eq!(event.unwrap().unwrap(), "bookmark"),
        () = busy => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_watch_is_ended_with_gone() {
    let (_server, client) = server();
    let api = config_maps(&client);
    let mut events = pin!(api.watch(&WatchParams::default(), "0").await.unwrap().map_ok(told));
    create(&client, &config_map("a", &json!({}))).await;
    assert_eq!(events.try_next().await.unwrap().unwrap(), "added a");
    for index in 0..1_100 {
        label(&client, "a", &index.to_string()).await;
    }
    assert_eq!(events.try_next().await.unwrap().unwrap(), "error 410");
    assert_eq!(events.try_next().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_gets_bookmarks_and_ends_at_its_timeout() {
    let (_server, client) = server();
    let api = config_maps(&client);
    let params = WatchParams::default().timeout(150);
    let events = api.watch(&params, "0").await.unwrap().map_ok(told);
    let events: Vec<_> = events.try_collect().await.unwrap();
    assert_eq!(events, ["bookmark", "bookmark"]);
}

#[tokio::test(start_paused = true)]
async fn a_reflector_of_kube_follows_a_streaming_list() {
    let (_server, client) = server();
    create(&client, &config_map("a", &json!({}))).await;
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let mut events = pin!(watcher::watcher(config_maps(&client), config));
        let mut seen = Vec::new();
        while !matches!(seen.last(), Some(Event::InitDone)) {
            seen.push(events.try_next().await.unwrap().unwrap());
        }
        assert!(matches!(seen.as_slice(), [Event::Init, Event::InitApply(_), Event::InitDone]));
    }
}
