//! Services and their requests.

use std::time::Duration;

use super::{Act, Call, Framing, LENGTH_MS, Step, Wanted};
use crate::chance::Chance;
use crate::identity::Habit;

/// Requests in a burst, at most.
const BURST_MAX: usize = 12;

/// A Service: how it is made, changed, called and deleted.
pub(super) fn service(chance: &Chance, index: usize, steps: &mut Vec<Step>) {
    let name = format!("model-{index}");
    let mut wanted = Wanted {
        name: name.clone(),
        generation: 1,
        limit: *chance.weighted(&[(4, 0), (3, 1), (2, 2), (1, 5)]),
        timeout_s: *chance.pick(&[10, 20, 60]),
        habit: *chance.weighted(&[(8, Habit::Well), (2, Habit::Slow), (1, Habit::Broken)]),
        min_scale: *chance.weighted(&[(6, 0), (1, 1), (1, 2)]),
        is_split: false,
        is_h2: chance.one_in(5),
        is_pair: chance.one_in(5),
    };
    let begin = chance.between(0, 3_000);
    steps.push(Step { at: begin, act: Act::Apply(wanted.clone()) });
    for _ in 0..*chance.weighted(&[(3, 0), (3, 1), (2, 2), (1, 4)]) {
        wanted.generation += 1;
        change(chance, &mut wanted);
        let at = chance.between(8_000, LENGTH_MS);
        steps.push(Step { at, act: Act::Apply(wanted.clone()) });
    }
    // The changes were drawn in any order: the newest generation has to be the last.
    let mut times: Vec<_> = applied(steps, &name).map(|step| step.at).collect();
    times.sort();
    for (step, at) in applied(steps, &name).zip(times) {
        step.at = at;
    }
    if chance.one_in(4) {
        let at = chance.between(10_000, LENGTH_MS - 10_000);
        steps.push(Step { at, act: Act::Delete(name.clone()) });
        if !chance.one_in(4) {
            let again = at + chance.between(0, 5_000);
            let last = applied(steps, &name).filter(|step| step.at < again).last();
            if let Some(Act::Apply(wanted)) = last.map(|step| step.act.clone()) {
                steps.push(Step { at: again, act: Act::Apply(wanted) });
            }
        }
    }
    calls(chance, &name, begin, steps);
}

fn applied<'a>(steps: &'a mut [Step], name: &'a str) -> impl Iterator<Item = &'a mut Step> {
    steps
        .iter_mut()
        .filter(move |step| matches!(&step.act, Act::Apply(wanted) if wanted.name == name))
}

fn change(chance: &Chance, wanted: &mut Wanted) {
    match chance.below(5) {
        0 => wanted.limit = *chance.pick(&[0, 1, 2, 5]),
        1 => wanted.is_split = !wanted.is_split,
        2 => wanted.min_scale = *chance.pick(&[0, 0, 1, 2]),
        3 => {
            wanted.habit =
                *chance.weighted(&[(4, Habit::Well), (2, Habit::Slow), (1, Habit::Broken)]);
        }
        _ => wanted.timeout_s = *chance.pick(&[10, 20, 60]),
    }
}

fn calls(chance: &Chance, name: &str, begin: Duration, steps: &mut Vec<Step>) {
    let mut at = begin + chance.between(0, 8_000);
    let end = Duration::from_millis(LENGTH_MS);
    while at < end {
        let call = Call {
            count: u32::try_from(*chance.weighted(&[(6, 1), (3, 3), (1, BURST_MAX)])).unwrap_or(1),
            work: *chance.weighted(&[
                (6, Duration::from_millis(5)),
                (4, Duration::from_millis(150)),
                (2, Duration::from_secs(2)),
                (1, Duration::from_secs(12)),
            ]),
            parts: *chance.weighted(&[(5, 1), (1, 4)]),
            upload: *chance.weighted(&[(8, 0), (1, 2_000), (1, 100_000)]),
            framing: *chance.weighted(&[
                (3, Framing::Open),
                (4, Framing::Sized),
                (1, Framing::Trailers),
            ]),
            is_kept: chance.one_in(3),
            leaves_after: chance.one_in(12).then(|| chance.between(1, 3_000)),
            is_outside: chance.one_in(20),
        };
        steps.push(Step { at, act: Act::Call(name.to_owned(), call) });
        at += *chance.weighted(&[
            (6, Duration::from_millis(50)),
            (6, Duration::from_millis(700)),
            (4, Duration::from_secs(3)),
            (3, Duration::from_secs(9)),
            (1, Duration::from_secs(20)),
        ]) + chance.between(0, 900);
    }
}

/// Changes of the platform's settings.
pub(super) fn settings(chance: &Chance, steps: &mut Vec<Step>) {
    if !chance.one_in(4) {
        return;
    }
    let at = chance.between(8_000, LENGTH_MS);
    let (key, values) = chance.pick(&[
        ("target-burst-capacity", ["0", "-1", "211"]),
        ("stable-window", ["6s", "10s", "15s"]),
        ("container-concurrency-target-default", ["1", "10", "100"]),
        ("scale-down-delay", ["0s", "4s", "8s"]),
        ("panic-window-percentage", ["10.0", "50.0", "100.0"]),
    ]);
    let value = (*chance.pick(values)).to_owned();
    steps.push(Step { at, act: Act::Configure("config-autoscaler", key, value) });
}
