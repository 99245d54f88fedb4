//! An autoscaler that is cut off from one of two activators.

use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, sleep, timeout};

use crate::seed::{self, Chance};
use crate::world::{UNHEARD_NOTICE, World};

const REVISION: &str = "model-00001";
/// From the last request to the decision to sleep: the window twice, because a whole one must have
/// passed since all activators were heard, the grace period, and ticks around them.
const UNTIL_DECISION: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn a_model_that_only_the_unheard_activator_calls_stays_up_and_an_event_says_why() {
    let seed = seed::from_environment(20_261_125, 1).next().expect("one was asked for");
    let world = World::with_activators(2, &Chance::new(seed)).await;
    world.deploy("model").await;
    world.cut(1, true);
    let start = Instant::now();
    while start.elapsed() < UNHEARD_NOTICE + UNTIL_DECISION {
        let answer = world.call_by(1, "model").await.expect("a connection");
        assert_eq!(answer.0, StatusCode::OK, "{answer:?} after {:?}", start.elapsed());
        assert_ne!(world.desired(REVISION), Some(0), "after {:?}", start.elapsed());
        sleep(Duration::from_millis(500)).await;
    }
    let notes = world.notes(REVISION).await;
    assert!(notes.iter().any(|note| note.contains("activator-1 (for ")), "{notes:?}");

    // The other activator is heard all the time, and it knows no reason why the model should stay.
    world.cut(1, false);
    timeout(UNTIL_DECISION, world.decided_to_sleep(REVISION)).await.expect("all are heard");
}
