use std::convert::Infallible;

use futures::{FutureExt as _, StreamExt as _};
use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use kube::runtime::watcher;
use kube::{Api, Client};

use super::*;

/// A client of an API server that answers with nothing at all.
fn wordless() -> Client {
    let service = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    Client::new(service, "default")
}

/// A watch that panics is a failure of the process, named, and not the end of one task alone.
#[tokio::test]
async fn a_watch_that_panics_is_told_by_its_name() {
    let tasks = Tasks::new();
    let until = CancellationToken::new();
    drop(tasks.spawn("settings", &until, std::future::pending()));
    let watch = async {
        let maps = Api::<ConfigMap>::default_namespaced(wordless());
        let mut events = std::pin::pin!(watcher(maps, watcher::Config::default()));
        while let Some(event) = events.next().await {
            assert!(event.is_ok(), "the fault of this watch is that it panics at an error");
        }
    };
    drop(tasks.spawn("watch of ConfigMaps", &until, watch));
    let failure = tasks.failure().await;
    assert_eq!(failure, TaskError::Panicked("watch of ConfigMaps"));
    assert_eq!(
        failure.to_string(),
        "the watch of ConfigMaps panicked, which is a bug: see the log above"
    );
}

#[tokio::test]
async fn the_first_end_before_its_time_is_a_failure_and_an_orderly_one_is_none() {
    let tasks = Tasks::new();
    let until = CancellationToken::new();
    let end = until.clone();
    let orderly = tasks.spawn("orderly", &until, async move { end.cancelled().await });
    until.cancel();
    orderly.await.unwrap();
    assert_eq!(tasks.failure().now_or_never(), None);
    let running = CancellationToken::new();
    tasks.spawn("first", &running, async {}).await.unwrap();
    tasks.spawn("second", &running, async {}).await.unwrap();
    assert_eq!(tasks.failure().await, TaskError::Ended("first"));
}

/// A panic in the shutdown may have left work undone.
#[tokio::test]
async fn a_panic_counts_during_the_shutdown_too() {
    let tasks = Tasks::new();
    let until = CancellationToken::new();
    until.cancel();
    let broken = tasks.spawn("late", &until, async { assert_eq!(1, 2, "broken") });
    assert!(broken.await.unwrap_err().is_panic());
    assert_eq!(tasks.failure().await, TaskError::Panicked("late"));
}
