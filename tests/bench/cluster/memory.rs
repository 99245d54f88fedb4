//! Memory of Ebb's processes on this machine, inside their containers.

use ebb_tests::processes::{named, proportional_bytes};

use crate::figures::{Figure, Paired};

/// Goal for one replica of each of the three components together.
const GOAL_MIB: f64 = 40.0;
const COMPONENTS: [(&str, &str); 3] = [
    ("ebb-activator", "memory of an activator, idle"),
    ("ebb-autoscaler", "memory of an autoscaler, idle"),
    ("ebb-controller", "memory of a controller, idle"),
];

/// Each component by itself, and one of each together.
pub(super) fn measure() -> Vec<Figure> {
    let components = COMPONENTS.map(|(program, name)| {
        let value = resident_mib(program).into_iter().fold(0.0, f64::max);
        Figure { name, value, unit: "MiB", goal: None, paired: None }
    });
    components.into_iter().chain([together("memory of one of each, idle")]).collect()
}

/// One replica of each component together; of several replicas the largest counts.
pub(super) fn together(name: &'static str) -> Figure {
    let (mut value, mut everything) = (0.0, 0.0);
    for (program, _) in COMPONENTS {
        let replicas = resident_mib(program);
        value += replicas.iter().copied().fold(0.0, f64::max);
        everything += replicas.iter().sum::<f64>();
    }
    let paired = Paired { name: "with standbys", value: everything, unit: "MiB" };
    Figure { name, value, unit: "MiB", goal: Some(GOAL_MIB), paired: Some(paired) }
}

fn resident_mib(program: &str) -> Vec<f64> {
    named(program).into_iter().filter_map(proportional_bytes).map(mib).collect()
}

#[allow(clippy::cast_precision_loss, reason = "bytes of one machine")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
