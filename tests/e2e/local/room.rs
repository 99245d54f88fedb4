//! More models than there is room for: who waits, who goes, and what is never exceeded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use ebb_tests::ebb::Ebb;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::{eventually, processes};
use http::StatusCode;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until};

/// Models, and how many of them fit.
const MODELS: usize = 10;
const FIT: usize = 3;
/// What a replica asks for, has, and what there is for all: room for three.
const ASKED_MIB: u64 = 96;
const WEIGHTS_MIB: u64 = 80;
const ROOM_MIB: u64 = 300;
/// How long a model loads. The same for all: the naive rule is Ebb's own with nothing to weigh.
const LOAD_MS: u64 = 900;
/// How long a request takes in its model.
const SERVED_MS: u64 = 40;
/// A request may reach Ebb so much later than it was meant to, on a busy machine: of two that were meant
/// to come within this time nobody knows which was first.
const SENT_WITHIN: Duration = Duration::from_millis(100);

/// How room is made.
struct Rule {
    name: &'static str,
    residency: Duration,
    turn: Duration,
}

/// A load at random: how long, and how many requests a second.
#[derive(Clone, Copy)]
struct Load {
    seconds: u64,
    rate: f64,
    seed: u64,
}

/// What became of the requests.
#[derive(Default)]
struct Outcome {
    /// How long each took, sorted.
    times: Vec<Duration>,
    /// Requests that were overtaken by a later one of their model.
    overtaken: usize,
    /// The most memory that all replicas had at once, in bytes.
    most: u64,
    /// How many replicas were started.
    starts: usize,
}

/// One model: a replica at the most, and one request at a time, so that the order in which they are
/// answered is the order in which they were served.
fn model(index: usize, mark: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{name: m{index}}}
spec:
  template:
    metadata:
      annotations: {{autoscaling.knative.dev/initial-scale: \"0\", autoscaling.knative.dev/max-scale: \"1\"}}
    spec:
      containerConcurrency: 1
      containers:
        - image: ebb-chat
          command: [ebb-chat]
          env:
            - {{name: EBB_CHAT_LOAD_TIME, value: {LOAD_MS}ms}}
            - {{name: EBB_CHAT_WEIGHTS_MIB, value: \"{WEIGHTS_MIB}\"}}
            - {{name: ROOM_TEST, value: {mark}}}
          readinessProbe: {{httpGet: {{path: /health}}}}
          resources: {{requests: {{memory: {ASKED_MIB}Mi}}}}
---
"
    )
}

/// An Ebb with so much room, and no Service yet.
async fn start(mebibytes: u64) -> anyhow::Result<Ebb> {
    let folder = Arc::new(TempDir::with_prefix("ebb-test-")?);
    Ebb::start_in(folder, &["--memory", &format!("{mebibytes}Mi")]).await
}

impl Rule {
    async fn apply(&self, kubectl: &Kubectl) -> anyhow::Result<()> {
        let (residency, turn) = (self.residency.as_millis(), self.turn.as_millis());
        let settings = format!(
            "apiVersion: v1
kind: ConfigMap
metadata: {{name: config-autoscaler, namespace: knative-serving}}
data:
  allow-zero-initial-scale: \"true\"
  make-room-residency: {residency}ms
  make-room-turn: {turn}ms
"
        );
        kubectl.apply(&settings).await.map(drop)
    }
}

/// Requests at random instants to models at random, the first ones more often.
async fn run(ebb: &Ebb, load: Load, mark: &str) -> anyhow::Result<Outcome> {
    let mut random = StdRng::seed_from_u64(load.seed);
    let began = Instant::now();
    let ends = began + Duration::from_secs(load.seconds);
    let marker = format!("ROOM_TEST={mark}");
    let watched = tokio::spawn(async move {
        let (mut most, mut looks) = (0, interval(Duration::from_millis(100)));
        let mut seen = std::collections::BTreeSet::new();
        while Instant::now() < ends {
            looks.tick().await;
            let replicas = processes::with_environment(&marker);
            let bytes = replicas.iter().filter_map(|pid| processes::resident_bytes(*pid)).sum();
            seen.extend(replicas);
            most = u64::max(most, bytes);
        }
        (most, seen.len())
    });
    let mut requests = JoinSet::new();
    let mut at = began;
    loop {
        // Exponential pauses: a Poisson stream.
        let pause = -(1.0 - random.random::<f64>()).ln() / load.rate;
        at += Duration::from_secs_f64(pause);
        if at >= ends {
            break;
        }
        let weight = random.random::<f64>();
        let index = pick(weight);
        let (client, host) = (ebb.client(), ebb.host(&format!("m{index}")));
        requests.spawn(async move {
            sleep_until(at).await;
            let answer = client.get(&host, &format!("/sleep?ms={SERVED_MS}")).await;
            (index, at, Instant::now(), answer)
        });
    }
    let mut outcome = Outcome::default();
    let mut answered: BTreeMap<usize, Vec<(Instant, Instant)>> = BTreeMap::new();
    while let Some(request) = requests.join_next().await {
        let (index, at, end, answer) = request?;
        let answer = answer?;
        ensure!(answer.status == StatusCode::OK, "m{index} after {:?}: {answer:?}", end - at);
        outcome.times.push(end - at);
        answered.entry(index).or_default().push((end, at));
    }
    outcome.times.sort_unstable();
    for answers in answered.values_mut() {
        answers.sort_unstable();
        let overtakes = |pair: &&[(Instant, Instant)]| pair[0].1 > pair[1].1 + SENT_WITHIN;
        outcome.overtaken += answers.windows(2).filter(overtakes).count();
    }
    (outcome.most, outcome.starts) = watched.await?;
    Ok(outcome)
}

/// A model for a number from 0 to 1: each is asked for four fifths as often as the one before it.
fn pick(number: f64) -> usize {
    let weights: Vec<f64> =
        (0..MODELS).map(|index| 0.8_f64.powi(i32::try_from(index).unwrap())).collect();
    let mut left = number * weights.iter().sum::<f64>();
    let found = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    found.unwrap_or(MODELS - 1)
}

async fn deploy(ebb: &Ebb, rule: &Rule, mark: &str) -> anyhow::Result<()> {
    let kubectl = ebb.kubectl();
    rule.apply(&kubectl).await?;
    let manifests: String = (0..MODELS).map(|index| model(index, mark)).collect();
    // The settings may take a moment to be known.
    eventually("they are applied", || async { kubectl.apply(&manifests).await.ok() }).await;
    for index in 0..MODELS {
        kubectl.wait_ready(&format!("m{index}")).await?;
    }
    Ok(())
}

impl Outcome {
    fn quantile(&self, part: f64) -> f64 {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let index = (self.times.len() as f64 * part) as usize;
        self.times[index.min(self.times.len() - 1)].as_secs_f64()
    }
}

/// No request fails, memory stays below what there is, and no model is stopped before its time.
#[tokio::test]
async fn ten_models_share_the_room_of_three() -> anyhow::Result<()> {
    let rule =
        Rule { name: "as it is", residency: Duration::from_secs(1), turn: Duration::from_secs(5) };
    let ebb = start(ROOM_MIB).await?;
    let mark = format!("share-{}", std::process::id());
    deploy(&ebb, &rule, &mark).await?;
    let load = Load { seconds: 20, rate: 3.0, seed: 5 };
    let outcome = run(&ebb, load, &mark).await?;
    assert!(outcome.times.len() > 30, "{} requests", outcome.times.len());
    assert!(outcome.most <= ROOM_MIB << 20, "{} MiB at once", outcome.most >> 20);
    assert!(
        outcome.most > 2 * (WEIGHTS_MIB << 20),
        "{} MiB: the room was not used",
        outcome.most >> 20
    );
    assert_eq!(outcome.overtaken, 0);
    // A place has a new tenant once in a residency at the most.
    let most = FIT * (1 + usize::try_from(load.seconds / rule.residency.as_secs())?);
    assert!((FIT + 1..=most).contains(&outcome.starts), "{} starts", outcome.starts);
    // A pod that had to wait is as its template says.
    let items = ebb.kubectl().ok(&["get", "pods", "-o", "json"]).await?;
    let items: serde_json::Value = serde_json::from_str(&items)?;
    let items = items["items"].as_array().map_or(&[][..], Vec::as_slice);
    assert!(!items.is_empty(), "nothing runs");
    for pod in items {
        let notes = &pod["metadata"]["annotations"];
        assert_eq!(notes["kubectl.kubernetes.io/default-container"], "user-container", "{notes}");
    }
    Ok(())
}

/// A model that always has a request gives way to one that has waited for a turn; none of its requests
/// fails, and it has the next turn.
#[tokio::test]
async fn a_model_that_is_never_idle_gives_way_after_a_turn() -> anyhow::Result<()> {
    let rule = Rule {
        name: "short turns",
        residency: Duration::from_millis(500),
        turn: Duration::from_secs(2),
    };
    let ebb = start(ASKED_MIB).await?;
    let mark = format!("turn-{}", std::process::id());
    deploy(&ebb, &rule, &mark).await?;
    let (client, busy) = (ebb.client(), ebb.host("m0"));
    client.get(&busy, "/health").await?;
    let mut requests = JoinSet::new();
    for number in 0..60_u64 {
        let (client, busy) = (client.clone(), busy.clone());
        requests.spawn(async move {
            sleep(Duration::from_millis(number * 100)).await;
            client.get(&busy, "/sleep?ms=110").await
        });
    }
    sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    let answer = client.get(&ebb.host("m1"), "/health").await?;
    assert_eq!(answer.status, StatusCode::OK);
    let waited = began.elapsed();
    while let Some(answer) = requests.join_next().await {
        let answer = answer??;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    assert!(began.elapsed() > waited + Duration::from_secs(1), "the other was idle: {waited:?}");
    Ok(())
}

/// Ten minutes of it, beside the rule that stops the least recently used at once: `make room`.
#[tokio::test]
#[ignore = "takes twenty minutes: make room"]
async fn the_rule_beside_the_naive_one() -> anyhow::Result<()> {
    let seconds =
        std::env::var("SECONDS_EACH").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let rules = [
        Rule { name: "as it is", residency: Duration::from_secs(2), turn: Duration::from_secs(30) },
        Rule { name: "at once", residency: Duration::ZERO, turn: Duration::from_millis(1) },
    ];
    println!(
        "{:10} {:>8} {:>7} {:>9} {:>7} {:>7} {:>7} {:>7}",
        "rule", "requests", "starts", "most MiB", "p50 s", "p90 s", "p99 s", "max s"
    );
    for rule in rules {
        let ebb = start(ROOM_MIB).await?;
        let mark = format!("{}-{}", rule.residency.as_millis(), std::process::id());
        deploy(&ebb, &rule, &mark).await?;
        let outcome = run(&ebb, Load { seconds, rate: 2.0, seed: 7 }, &mark).await?;
        assert!(outcome.most <= ROOM_MIB << 20, "{} MiB at once", outcome.most >> 20);
        assert_eq!(outcome.overtaken, 0);
        println!(
            "{:10} {:>8} {:>7} {:>9} {:>7.2} {:>7.2} {:>7.2} {:>7.2}",
            rule.name,
            outcome.times.len(),
            outcome.starts,
            outcome.most >> 20,
            outcome.quantile(0.5),
            outcome.quantile(0.9),
            outcome.quantile(0.99),
            outcome.quantile(1.0),
        );
    }
    Ok(())
}
