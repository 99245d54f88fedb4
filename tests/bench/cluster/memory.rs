//! Memory of Ebb's processes on this machine, inside their containers.

use ebb_tests::processes::{named, resident_bytes};

use crate::figures::{Figure, Paired};

/// For one replica of each of the three together.
const GOAL_MIB: f64 = 40.0;
const COMPONENTS: [(&str, &str); 3] = [
    ("ebb-activator", "memory of an activator, idle"),
    ("ebb-autoscaler", "memory of an autoscaler, idle"),
    ("ebb-controller", "memory of a controller, idle"),
];

pub(super) fn measure() -> Vec<Figure> {
    let (mut figures, mut together, mut everything) = (Vec::new(), 0.0, 0.0);
    for (program, name) in COMPONENTS {
        let replicas: Vec<f64> =
            named(program).into_iter().filter_map(resident_bytes).map(mib).collect();
        let most = replicas.iter().copied().fold(0.0, f64::max);
        together += most;
        everything += replicas.iter().sum::<f64>();
        figures.push(Figure { name, value: most, unit: "MiB", goal: None, paired: None });
    }
    figures.push(Figure {
        name: "memory of one of each, idle",
        value: together,
        unit: "MiB",
        goal: Some(GOAL_MIB),
        paired: Some(Paired { name: "with standbys", value: everything, unit: "MiB" }),
    });
    figures
}

#[allow(clippy::cast_precision_loss, reason = "bytes of one machine")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
