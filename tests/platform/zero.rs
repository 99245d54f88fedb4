//! Scale to zero against the request that comes at the worst moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::seed::{self, Chance};
use crate::world::World;

/// Requests that must have arrived between a decision to sleep and the end of the process.
const INTERLEAVINGS: usize = 10_000;
/// Worlds side by side, each with a thread and a seed of its own: one world has one thread.
const WORLDS: usize = 4;
/// Revisions that sleep and wake side by side in one world.
const REVISIONS: usize = 12;
/// From the decision to the end of the process: watches, the drain, and the preStop sleep.
const GAP_MS: u64 = 3_100;
/// From an answer to the decision: the window, and two ticks around it.
const UNTIL_DECISION_MS: u64 = 11_000;

#[derive(Default)]
struct Tally {
    /// Requests that came after the decision to sleep and before the end of the process.
    between: AtomicUsize,
    /// Requests that came at another time.
    otherwise: AtomicUsize,
}

#[test]
fn a_request_between_the_decision_to_sleep_and_the_end_of_the_process_is_answered() {
    let seeds = seed::from_environment(20_260_721, WORLDS);
    let tally = Arc::new(Tally::default());
    let worlds: Vec<_> = seeds
        .map(|seed| {
            let tally = tally.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .start_paused(true)
                    .build();
                runtime.expect("a runtime").block_on(live(&Chance::new(seed), &tally));
            })
        })
        .collect();
    for world in worlds {
        world.join().expect("every request was answered");
    }
    let (between, otherwise) =
        (tally.between.load(Ordering::Relaxed), tally.otherwise.load(Ordering::Relaxed));
    println!("{between} requests between decision and end, {otherwise} at other times");
    assert!(between >= INTERLEAVINGS);
    assert!(otherwise > INTERLEAVINGS / 50, "the other moments were tried too: {otherwise}");
}

/// One world, until it has had its share of the interleavings.
async fn live(chance: &Chance, total: &Tally) {
    let world = Arc::new(World::start(chance).await);
    let tally = Arc::new(Tally::default());
    let callers = (0..REVISIONS).map(|index| {
        let (world, tally, chance) = (world.clone(), tally.clone(), chance.clone());
        tokio::spawn(async move {
            let name = format!("model-{index}");
            world.deploy(&name).await;
            while tally.between.load(Ordering::Relaxed) < INTERLEAVINGS / WORLDS {
                wait_for_the_moment(&world, &format!("{name}-00001"), &chance).await;
                call_once(&world, &name, &tally).await;
            }
        })
    });
    for caller in futures::future::join_all(callers).await {
        caller.expect("every request was answered");
    }
    total.between.fetch_add(tally.between.load(Ordering::Relaxed), Ordering::Relaxed);
    total.otherwise.fetch_add(tally.otherwise.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// Waits until the next request is due: mostly right after the decision, sometimes at any time
/// around it.
async fn wait_for_the_moment(world: &World, revision: &str, chance: &Chance) {
    if chance.one_in(8) {
        tokio::time::sleep(chance.between(4_000, UNTIL_DECISION_MS + GAP_MS)).await;
        return;
    }
    let decision = world.decided_to_sleep(revision);
    tokio::time::timeout(Duration::from_millis(2 * UNTIL_DECISION_MS), decision)
        .await
        .expect("a silent revision is put to sleep");
    tokio::time::sleep(chance.between(0, GAP_MS)).await;
}

async fn call_once(world: &World, name: &str, tally: &Tally) {
    let revision = format!("{name}-00001");
    let decided = world.desired(&revision) == Some(0);
    let between = decided && world.machines.run(&revision);
    let answer = tokio::time::timeout(Duration::from_secs(30), world.call(name)).await;
    let moment = if between { "between decision and end" } else { "at another time" };
    match answer {
        Ok(Ok((StatusCode::OK, body))) => assert_eq!(body, revision, "another revision answered"),
        other => panic!("a request {moment} was lost: {other:?}"),
    }
    let count = if between { &tally.between } else { &tally.otherwise };
    count.fetch_add(1, Ordering::Relaxed);
}
