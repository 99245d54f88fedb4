//! Golden cases worked by hand from the formulae, and properties that hold for any load.

use std::collections::BTreeMap;

use ebb_api::config::Config;
use proptest::prelude::*;

use super::*;

fn spec() -> ScalingSpec {
    ScalingSpec::resolve(0, true, &BTreeMap::new(), &Config::default())
}

fn load(stable: f64, panic: f64) -> Averages {
    Averages { stable, panic }
}

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn one_decision_follows_the_formulae() {
    // Target 70, rates 1000 and 2, threshold 2, burst capacity 211, total 100.
    // (ready, stable, panic) -> (desired, excess burst, panicking)
    let cases = [
        // ceil(0/70) = 0; floor(1/2) = 0; EBC = 0*100 - 211 - 0
        ((0, 0.0, 0.0), (0, -211.0, false)),
        // ceil(0.01/70) = 1; 1/1 < 2; EBC = floor(-211.01)
        ((0, 0.01, 0.01), (1, -212.0, false)),
        // ceil(70/70) = 1; EBC = 100 - 211 - 70
        ((1, 70.0, 70.0), (1, -181.0, false)),
        // ceil(71/70) = 2; panic 2/1 >= 2; max(2, 2); EBC = floor(100 - 211 - 71)
        ((1, 71.0, 71.0), (2, -182.0, true)),
        // stable 2, panic ceil(700/70) = 10; 10/1 >= 2: max(2, 10); EBC = 100 - 211 - 700
        ((1, 100.0, 700.0), (10, -811.0, true)),
        // One ready replica: at most ceil(1000 * 1) = 1000, of ceil(140000/70) = 2000 asked.
        ((1, 140_000.0, 140_000.0), (1000, -140_111.0, true)),
    ];
    for ((ready, stable, panic), (desired, excess_burst, panicking)) in cases {
        let now = Instant::now();
        let decision = Decider::new(0, now).decide(load(stable, panic), ready, &spec(), now);
        let expected = Decision { desired, excess_burst, panicking };
        assert_eq!(decision, expected, "ready {ready} stable {stable} panic {panic}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_takes_at_most_half_of_the_ready_replicas() {
    let start = Instant::now();
    let mut decider = Decider::new(10, start);
    // The decider began in panic with 10 replicas; the panic ends 60 s and a tick later.
    let held = decider.decide(load(0.0, 0.0), 10, &spec(), after(start, 60));
    assert_eq!((held.desired, held.panicking), (10, true));
    // floor(10/2) = 5, floor(5/2) = 2, floor(2/2) = 1, floor(1/2) = 0
    for (tick, ready, desired) in [(62, 10, 5), (64, 5, 2), (66, 2, 1), (68, 1, 0)] {
        let decision = decider.decide(load(0.0, 0.0), ready, &spec(), after(start, tick));
        assert_eq!((decision.desired, decision.panicking), (desired, false), "{tick}");
    }
    let unreachable = ScalingSpec { reachable: false, ..spec() };
    let decision = decider.decide(load(0.0, 0.0), 10, &unreachable, after(start, 70));
    assert_eq!(decision.desired, 0);
}

#[tokio::test(start_paused = true)]
async fn panic_holds_for_a_stable_window_after_the_last_excess() {
    let start = Instant::now();
    let mut decider = Decider::new(0, start);
    // (second, ready, stable, panic, desired, panicking)
    let steps = [
        (0, 1, 10.0, 700.0, 10, true),  // 10/1 >= 2
        (2, 10, 50.0, 300.0, 10, true), // ceil(300/70) = 5, 5/10 < 2: held
        (30, 2, 50.0, 280.0, 10, true), // 4/2 >= 2: extended to 90
        (62, 10, 1.0, 1.0, 10, true),   // 30 + 60 > 62
        (90, 10, 1.0, 1.0, 10, true),   // 30 + 60 = 90 is not past
        (92, 10, 1.0, 1.0, 5, false),   // floor(10/2)
    ];
    for (second, ready, stable, panic, desired, panicking) in steps {
        let decision = decider.decide(load(stable, panic), ready, &spec(), after(start, second));
        assert_eq!((decision.desired, decision.panicking), (desired, panicking), "{second}");
    }
}

#[tokio::test(start_paused = true)]
async fn activation_scale_is_a_floor_only_while_there_is_load() {
    let now = Instant::now();
    let spec = ScalingSpec { activation_scale: 3, ..spec() };
    let mut decider = Decider::new(0, now);
    assert_eq!(decider.decide(load(1.0, 1.0), 0, &spec, now).desired, 3);
    assert_eq!(decider.decide(load(0.0, 0.0), 1, &spec, now).desired, 0);
}

#[tokio::test(start_paused = true)]
async fn the_delay_counts_only_while_reachable() {
    let start = Instant::now();
    let delayed = ScalingSpec { down_delay: Duration::from_secs(10), ..spec() };
    let mut decider = Decider::new(0, start);
    assert_eq!(decider.decide(load(60.0, 60.0), 1, &delayed, start).desired, 1);
    let later = after(start, 8);
    assert_eq!(decider.decide(load(0.0, 0.0), 1, &delayed, later).desired, 1);
    let unreachable = ScalingSpec { reachable: false, ..delayed };
    assert_eq!(decider.decide(load(0.0, 0.0), 1, &unreachable, later).desired, 0);
}

#[tokio::test(start_paused = true)]
async fn burst_capacity_zero_and_minus_one_are_answers_of_their_own() {
    let now = Instant::now();
    for (burst_capacity, expected) in [(0.0, 0.0), (-1.0, -1.0)] {
        let spec = ScalingSpec { burst_capacity, ..spec() };
        let decision = Decider::new(0, now).decide(load(5.0, 5.0), 1, &spec, now);
        assert!((decision.excess_burst - expected).abs() < 1e-9);
    }
}

proptest! {
    #[test]
    fn panic_never_lowers_and_no_decision_passes_the_rates(
        steps in prop::collection::vec((0u32..50, 0.0..1e6f64, 0.0..1e6f64, 0u64..20), 1..60),
        first in 0u32..50,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let mut now = runtime.block_on(async { Instant::now() });
        let mut decider = Decider::new(first, now);
        let spec = spec();
        let mut before: Option<Decision> = None;
        for (ready, stable, panic, pause) in steps {
            now += Duration::from_secs(pause);
            let decision = decider.decide(load(stable, panic), ready, &spec, now);
            if let Some(before) = before.filter(|d| d.panicking && decision.panicking) {
                prop_assert!(decision.desired >= before.desired);
            }
            if !decision.panicking {
                prop_assert!(decision.desired <= 1000 * ready.max(1));
                prop_assert!(decision.desired >= ready.max(1) / 2);
            }
            prop_assert!(decision.excess_burst.is_finite());
            before = Some(decision);
        }
    }
}
