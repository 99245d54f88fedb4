//! Worlds without chance faults, for questions with one answer: what is left when a process ends at
//! one certain write, and does the way to a state change the state?

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::identity::Habit;
use crate::plan::{Act, Call, Wanted};
use crate::story::Story;
use crate::world::World;

/// Until everything is settled after the last act: a lease of 12 s, restarts, windows of 6 s, and
/// the slowest pauses between two tries.
const SETTLED_AFTER: Duration = Duration::from_secs(75);
/// Until a new Service is there and awake.
const READY_AFTER: Duration = Duration::from_secs(4);

/// Something that Ebb does with several writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// A Service is made.
    Create,
    /// Its template changes: a new Revision takes over.
    Update,
    /// The same under load.
    Rollout,
    /// Half of its traffic goes to the first Revision.
    Traffic,
    /// Requests come that need many pods.
    ScaleUp,
    /// No request comes any more.
    ScaleToZero,
    /// It is deleted.
    Delete,
}

/// The moment at which a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// `autoscaler` or `controller`: the one that leads.
    pub(crate) part: crate::parts::Part,
    /// Which of its writes, from 1.
    pub(crate) number: u32,
    /// Whether the write is carried out.
    pub(crate) is_after: bool,
}

/// What is left in the end.
pub(crate) struct Left {
    /// The writes of the leading autoscaler and the leading controller.
    pub(crate) writes: BTreeMap<&'static str, u32>,
    /// Which write the process ended at, if it came so far.
    pub(crate) ended_at: Option<String>,
    /// The objects, without what differs from run to run.
    pub(crate) objects: BTreeMap<String, Value>,
}

/// Lives through a scenario; a process ends at `point` and is started again.
pub(crate) async fn live(scenario: Scenario, point: Option<Point>, story: &Story) -> Left {
    let world = World::begin(SEED, story).await;
    let base = wanted(1);
    world.pass(Duration::from_secs(4)).await;
    let first = scenario != Scenario::Create;
    if first {
        world.act(Act::Apply(base.clone())).await;
        world.pass(READY_AFTER).await;
        world.act(call(1, 5)).await;
    }
    if matches!(scenario, Scenario::Traffic) {
        world.act(Act::Apply(wanted(2))).await;
        world.pass(READY_AFTER).await;
    }
    // What is still under way from before is not the scenario's.
    if !matches!(scenario, Scenario::ScaleToZero) {
        world.pass(SETTLED_AFTER).await;
    }
    let counted = world.count_writes();
    let ending = point.map(|point| world.end_at(point));
    let busy = match scenario {
        Scenario::Create => start(&world, Act::Apply(base)),
        Scenario::Update => start(&world, Act::Apply(wanted(2))),
        Scenario::Rollout => {
            let load = start(&world, call(4, 3_000));
            drop(start(&world, Act::Apply(wanted(2))));
            load
        }
        Scenario::Traffic => start(&world, Act::Apply(Wanted { is_split: true, ..wanted(3) })),
        Scenario::ScaleUp => start(&world, call(5, 90_000)),
        Scenario::ScaleToZero => start(&world, call(1, 5)),
        Scenario::Delete => start(&world, Act::Delete(base.name)),
    };
    world.pass(SETTLED_AFTER).await;
    let objects = world.objects().await;
    let writes = counted();
    let ended_at = match ending {
        Some(ending) => ending.await.unwrap_or_default(),
        None => None,
    };
    busy.abort();
    Left { writes, ended_at, objects }
}

/// The objects after these states of a Service were asked for, one after the other.
pub(crate) async fn states(states: &[Wanted], story: &Story) -> BTreeMap<String, Value> {
    let world = World::begin(SEED, story).await;
    world.pass(Duration::from_secs(4)).await;
    for state in states {
        world.act(Act::Apply(state.clone())).await;
        world.pass(SETTLED_AFTER).await;
    }
    world.objects().await
}

/// Scenarios need no other.
const SEED: u64 = 1;

fn start(world: &World, act: Act) -> tokio::task::JoinHandle<()> {
    let world = world.clone();
    tokio::spawn(async move { world.act(act).await })
}

fn wanted(generation: u32) -> Wanted {
    Wanted {
        name: "model".to_owned(),
        generation,
        limit: 1,
        timeout_s: 60,
        habit: Habit::Well,
        min_scale: 0,
        is_split: false,
        is_h2: false,
        is_pair: false,
    }
}

fn call(count: u32, work_ms: u64) -> Act {
    let work = Duration::from_millis(work_ms);
    // A first part comes in time for the timeout.
    let parts = 1 + work_ms / 10_000;
    Act::Call("model".to_owned(), Call { parts, ..Call::plain(count, work) })
}
