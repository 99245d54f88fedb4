//! What a client that reads events gets while it waits, if comments are not enough for it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::events::{HELLO, asking, events};
use super::fixture::*;
use crate::WatchChange;

#[tokio::test(start_paused = true)]
async fn a_client_gets_progress_in_their_place_if_it_or_the_revision_asks_for_it() {
    for (noted, asked, begins) in [
        ("", "progress", "event: waiting\ndata: {"),
        ("progress", "", "event: waiting\ndata: {"),
        ("progress", "comments", ": waiting for the model"),
    ] {
        let world = World::new(json!({}));
        let mut known = revision(json!({}));
        let notes = known.metadata.annotations.get_or_insert_default();
        notes.insert("serving.ebb.dev/waiting-events".to_owned(), noted.to_owned());
        world.activator.change_revisions(WatchChange::Applied(known));
        let mut request = asking();
        request.headers_mut().insert("ebb-waiting-events", asked.parse().unwrap());
        let response = world.send(request).await;
        let (stream, ()) = futures::join!(text(response), async {
            sleep(Duration::from_secs(7)).await;
            world.start(1, events());
        });
        let notes: Vec<_> = stream.split_inclusive("\n\n").collect();
        assert_eq!(notes.len(), 4, "{stream}");
        assert!(notes[..2].iter().all(|note| note.starts_with(begins)), "{stream}");
        assert_eq!(notes[2..], [HELLO, HELLO]);
        if let Some(told) = notes[0].strip_prefix("event: waiting\ndata: ") {
            let told: Value = serde_json::from_str(told).unwrap();
            assert_eq!((&told["phase"], &told["waking_for_s"]), (&json!("asked"), &json!(5)));
        }
    }
}
