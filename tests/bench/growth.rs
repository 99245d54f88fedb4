//! The cost of one more service among many: CPU and memory of `ebb local` at growing numbers of
//! services that sleep.
//!
//! The services are made in bulk, their conditions are waited for, and the process is left alone
//! for a while, so that late writes are counted too. CPU is that of the services of a step; memory
//! is that of the whole process, divided by the services so far.

mod plot;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use ebb_api::serving::Service;
use ebb_tests::ebb::Ebb;
use ebb_tests::{eventually, processes};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{Api, PostParams};
use serde_json::json;
use tokio::time::Instant;

use crate::figures::{Figure, Paired};
use crate::note;

/// The factor by which the CPU time of a service may grow from the first step to the last.
const GOAL_RATIO: f64 = 1.5;
/// Memory of the whole process for each of its services, at the last step.
const GOAL_KIB: f64 = 80.0;
/// Requests in flight at once: as many as a few deploy pipelines send, more than two cores can work
/// on.
const CREATED_AT_ONCE: usize = 16;
/// How long the process is left alone after the last service is ready: statuses are written 2 s
/// later for progress and 5 s later for details.
const REST: Duration = Duration::from_secs(8);
/// Longest time without one more ready service: after that something is broken.
const PATIENCE: Duration = Duration::from_mins(1);
const SETTINGS: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: config-autoscaler, namespace: knative-serving}
data: {allow-zero-initial-scale: \"true\"}
";
const STEPS: [Step; 5] = [
    Step {
        services: 500,
        cpu: "CPU of each of the first 500 services",
        memory: "memory for each of 500 services",
    },
    Step {
        services: 1_000,
        cpu: "CPU of each service up to 1,000",
        memory: "memory for each of 1,000 services",
    },
    Step {
        services: 2_000,
        cpu: "CPU of each service up to 2,000",
        memory: "memory for each of 2,000 services",
    },
    Step {
        services: 4_000,
        cpu: "CPU of each service up to 4,000",
        memory: "memory for each of 4,000 services",
    },
    Step {
        services: 10_000,
        cpu: "CPU of each service up to 10,000",
        memory: "memory for each of 10,000 services",
    },
];

/// A number of services to reach, and the names of its figures.
struct Step {
    services: usize,
    cpu: &'static str,
    memory: &'static str,
}

/// The measurements of a step.
#[derive(Clone, Copy, Debug)]
struct Point {
    services: usize,
    /// CPU time of each service of the step.
    cpu_ms: f64,
    /// Memory of the whole process, for each service.
    memory_kib: f64,
    /// The same without the memory of an empty Ebb.
    added_kib: f64,
    /// Time until the last service was ready.
    took_s: f64,
    /// CPU time of a second in which nothing happens.
    idle_ms: f64,
}

/// An `ebb local` that grows.
struct Site {
    ebb: Ebb,
    services: Api<Service>,
    /// Memory before the first service, in bytes.
    empty: u64,
}

/// Measures up to `most` services; the plot goes into the file `plot`.
pub(crate) async fn measure(most: usize, plot: Option<&Path>) -> anyhow::Result<Vec<Figure>> {
    let site = Site::open().await?;
    let (mut points, mut figures) = (Vec::<Point>::new(), Vec::new());
    for step in STEPS.iter().filter(|step| step.services <= most) {
        let before = points.last().map_or(0, |point| point.services);
        let point = site.grow(before, step.services).await?;
        note(&format!("growth: {point:?}"));
        figures.extend(step.figures(point));
        points.push(point);
    }
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        figures.push(Figure {
            name: "CPU of a second among the last, nothing asked",
            value: last.idle_ms,
            unit: "ms",
            goal: None,
            paired: Some(Paired { name: "among the first", value: first.idle_ms, unit: "ms" }),
        });
        figures.push(Figure {
            name: "CPU of a service, last step beside the first",
            value: last.cpu_ms / first.cpu_ms,
            unit: "x",
            goal: Some(GOAL_RATIO),
            paired: Some(Paired { name: "first", value: first.cpu_ms, unit: "ms" }),
        });
    }
    if let Some(path) = plot {
        plot::write(path, &points).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(figures)
}

// === impl Step ===

impl Step {
    fn figures(&self, point: Point) -> [Figure; 2] {
        let is_last = STEPS.last().is_some_and(|last| last.services == self.services);
        [
            Figure {
                name: self.cpu,
                value: point.cpu_ms,
                unit: "ms",
                goal: None,
                paired: Some(Paired { name: "took", value: point.took_s, unit: "s" }),
            },
            Figure {
                name: self.memory,
                value: point.memory_kib,
                unit: "KiB",
                goal: is_last.then_some(GOAL_KIB),
                paired: Some(Paired { name: "added", value: point.added_kib, unit: "KiB" }),
            },
        ]
    }
}

// === impl Site ===

impl Site {
    async fn open() -> anyhow::Result<Self> {
        let ebb = Ebb::start().await?;
        ebb.kubectl().apply(SETTINGS).await?;
        let services = Api::default_namespaced(kube::Client::try_from(ebb.api().await?)?);
        // Ebb hears of the settings by a watch, some time after the apply.
        let trial = PostParams { dry_run: true, ..PostParams::default() };
        eventually("an initial scale of zero is allowed", || async {
            services.create(&trial, &service(0).ok()?).await.ok()
        })
        .await;
        tokio::time::sleep(REST).await;
        let empty = proportional_bytes(&ebb);
        Ok(Self { ebb, services, empty })
    }

    /// Creates services until there are `services`; `before` of them exist already.
    async fn grow(&self, before: usize, services: usize) -> anyhow::Result<Point> {
        let (began, cpu) = (Instant::now(), self.cpu_time()?);
        stream::iter(before..services)
            .map(|number| async move {
                let made = self.services.create(&PostParams::default(), &service(number)?).await;
                made.map(drop).with_context(|| format!("service {number}"))
            })
            .buffer_unordered(CREATED_AT_ONCE)
            .try_collect::<()>()
            .await?;
        self.all_ready(services).await?;
        let took = began.elapsed();
        tokio::time::sleep(REST).await;
        let used = self.cpu_time()?.saturating_sub(cpu);
        let bytes = proportional_bytes(&self.ebb);
        let idle = self.cpu_time()?;
        tokio::time::sleep(REST).await;
        let idle = self.cpu_time()?.saturating_sub(idle);
        Ok(Point {
            services,
            cpu_ms: used.as_secs_f64() * 1000.0 / number(services - before),
            memory_kib: kib(bytes) / number(services),
            added_kib: kib(bytes.saturating_sub(self.empty)) / number(services),
            took_s: took.as_secs_f64(),
            idle_ms: idle.as_secs_f64() * 1000.0 / REST.as_secs_f64(),
        })
    }

    /// Waits until so many services were reported as ready.
    async fn all_ready(&self, services: usize) -> anyhow::Result<()> {
        let (mut ready, mut since) = (0, Instant::now());
        loop {
            let now_ready = self.ebb.deployed();
            if now_ready >= services {
                return Ok(());
            }
            if now_ready > ready {
                (ready, since) = (now_ready, Instant::now());
            }
            anyhow::ensure!(since.elapsed() < PATIENCE, "{ready} of {services} are ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn cpu_time(&self) -> anyhow::Result<Duration> {
        let times = family(&self.ebb).map(processes::cpu_time);
        times.sum::<Option<Duration>>().context("ebb ended")
    }
}

/// A service that sleeps from the beginning.
fn service(number: usize) -> serde_json::Result<Service> {
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": format!("growth-{number:05}")},
        "spec": {"template": {
            "metadata": {"annotations": {"autoscaling.knative.dev/initial-scale": "0"}},
            "spec": {"containers": [{"image": "ebb-backend", "command": ["ebb-backend"]}]},
        }},
    }))
}

/// Ebb and its guardian.
fn family(ebb: &Ebb) -> impl Iterator<Item = i32> {
    std::iter::once(ebb.pid()).chain(processes::children(ebb.pid()))
}

fn proportional_bytes(ebb: &Ebb) -> u64 {
    family(ebb).filter_map(processes::proportional_bytes).sum()
}

#[allow(clippy::cast_precision_loss, reason = "bytes of one machine")]
fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

#[allow(clippy::cast_precision_loss, reason = "thousands")]
fn number(services: usize) -> f64 {
    services as f64
}
