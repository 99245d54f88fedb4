//! Which Revision a pod belongs to: a name can be used again, a label can be copied.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::fixture::*;
use crate::WatchChange;

fn renew(world: &World) {
    world.activator.change_revisions(WatchChange::Applied(revision_with_uid("r2", json!({}))));
}

/// After a delete and a create under one name.
#[tokio::test(start_paused = true)]
async fn a_pod_of_an_earlier_revision_of_the_name_gets_nothing() {
    let world = World::new(json!({}));
    let old = world.start(1, echo("old"));
    settle().await;
    assert_eq!(text(world.get().await).await, "old");
    world.activator.change_revisions(WatchChange::Deleted(revision(json!({}))));
    renew(&world);
    let (response, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.queued(), 1, "held for a pod of its own");
        // More news of the old pod changes nothing.
        world.tell(1, json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.queued(), 1);
        world.listen(2, echo("new"));
        world.tell(2, json!({"revisionUID": "r2"}));
    });
    assert_eq!(text(response).await, "new");
    assert_eq!(old.served.load(Ordering::SeqCst), 1);
}

/// The pod of the new revision may be seen before the new revision is.
#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_before_its_revision_waits_for_it() {
    let world = World::new(json!({}));
    world.start(1, echo("old"));
    world.listen(2, echo("new"));
    world.tell(2, json!({"revisionUID": "r2"}));
    settle().await;
    for _ in 0..20 {
        assert_eq!(text(world.get().await).await, "old");
    }
    renew(&world);
    settle().await;
    for _ in 0..20 {
        assert_eq!(text(world.get().await).await, "new");
    }
}

/// A list after a gap in the watch tells of the new revision alone.
#[tokio::test(start_paused = true)]
async fn a_request_for_the_earlier_revision_is_not_served_by_the_new_one() {
    let world = World::new(json!({}));
    let (response, ()) = futures::join!(world.get(), async {
        settle().await;
        renew(&world);
    });
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["ebb-error"], "revision-gone");
}

/// Not even after a pod of the earlier revision refused it.
#[tokio::test(start_paused = true)]
async fn a_request_that_comes_back_does_not_go_on_to_the_new_revision() {
    let world = World::new(json!({}));
    world.start(1, echo("old"));
    settle().await;
    world.hang_up(1);
    *world.network.pause.lock() = Duration::from_millis(100);
    let new = world.listen(2, echo("new"));
    let (response, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_millis(50)).await;
        assert_eq!(world.in_flight(), 1, "on its way to the old one");
        renew(&world);
        world.tell(2, json!({"revisionUID": "r2"}));
    });
    assert_eq!(response.status(), 404);
    assert_eq!(new.served.load(Ordering::SeqCst), 0);
}

/// Anybody who may make pods can copy labels.
#[tokio::test(start_paused = true)]
async fn a_pod_that_no_deployment_of_ours_made_gets_nothing() {
    let world = World::new(json!({}));
    let forged = world.listen(1, echo("forged"));
    world.tell(1, json!({"owner": "digits-00001"}));
    let (response, ()) = futures::join!(world.get(), async {
        sleep(Duration::from_secs(1)).await;
        world.start(2, echo("ours"));
    });
    assert_eq!(text(response).await, "ours");
    assert_eq!(forged.served.load(Ordering::SeqCst), 0);
}

/// A pod that loses its owner is taken out.
#[tokio::test(start_paused = true)]
async fn a_pod_that_loses_its_owner_gets_nothing_more() {
    let world = World::new(json!({}));
    world.start(1, echo("one"));
    world.start(2, echo("two"));
    settle().await;
    world.tell(1, json!({"owner": "somebody"}));
    for _ in 0..20 {
        assert_eq!(text(world.get().await).await, "two");
    }
}
