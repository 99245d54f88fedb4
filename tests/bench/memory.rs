//! Proportional memory (PSS) of `ebb local` and its guardian, with the examples deployed and
//! asleep.

use ebb_tests::ebb::Ebb;
use ebb_tests::{eventually, manifest, processes};

use crate::figures::{Figure, Paired};

/// A tenth of what Knative's control plane and gateway take, and then some.
const GOAL_MIB: f64 = 30.0;

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let ebb = Ebb::start_quick().await?;
    let empty = total_mib(&ebb);
    let kubectl = ebb.kubectl();
    for example in ["onnx", "chat"] {
        kubectl.apply(&manifest::example(example)?).await?;
    }
    for service in ["digits", "chat"] {
        kubectl.wait_ready(service).await?;
        ebb.client().get(&ebb.host(service), "/").await?;
    }
    eventually("both models sleep", || async {
        let pods = kubectl.ok(&["get", "pods", "-o", "name"]).await.ok()?;
        pods.trim().is_empty().then_some(())
    })
    .await;
    let paired = Paired { name: "just started", value: empty, unit: "MiB" };
    Ok(vec![Figure {
        name: "memory of ebb local, idle, two models asleep",
        value: total_mib(&ebb),
        unit: "MiB",
        goal: Some(GOAL_MIB),
        paired: Some(paired),
    }])
}

/// Ebb and its children together.
#[allow(clippy::cast_precision_loss, reason = "bytes of one machine")]
fn total_mib(ebb: &Ebb) -> f64 {
    let pids = std::iter::once(ebb.pid()).chain(processes::children(ebb.pid()));
    let bytes: u64 = pids.filter_map(processes::proportional_bytes).sum();
    bytes as f64 / f64::from(1 << 20)
}
