//! The cluster under test, and the services that are asked.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use ebb_tests::ebb::Ebb;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::service;
use ebb_tests::processes;
use tokio::time::{Instant, sleep};

use crate::caller::{Caller, Question};
use crate::fault::Fault;
use crate::outcome::SERVED;
use crate::work::Work;

/// The control group of a cluster that cluster/up made: cluster.sh has the name.
const GROUP: &str = "ebb-cluster";
/// The namespace that Ebb runs in.
const SYSTEM: [&str; 2] = ["-n", "knative-serving"];
/// Longest time for a component to be back after a fault.
const BACK_WITHIN: Duration = Duration::from_mins(3);
/// Longest wait for services to fall asleep.
const ASLEEP_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(250);
/// Answers in a row, each on a connection of its own, after which no activator is left that does not
/// know a service: one of two would have been met.
const KNOWN_AFTER: u32 = 30;
/// Pods of each component: the chart's default.
const REPLICAS: usize = 2;
/// Services that race to zero: so many starts of pods at a time as two cores still bear.
const RACERS: usize = 6;

/// The components of Ebb, which are Deployments with a name of `ebb-` and this.
pub(crate) const COMPONENTS: [&str; 3] = ["activator", "autoscaler", "controller"];

/// A namespace with services.
pub(crate) struct Site {
    pub(crate) fault: Fault,
    pub(crate) ebb: Ebb,
    /// The services that the clients of this fault ask.
    pub(crate) services: Vec<String>,
    /// Services that sleep between two requests, where the fault lets them be woken.
    pub(crate) sleepers: Vec<String>,
}

impl Site {
    /// Deploys what the clients of this fault ask, and waits until it is ready.
    pub(crate) async fn open(fault: Fault) -> anyhow::Result<Self> {
        ensure!(
            !pids("kube-apiserver").is_empty(),
            "there is no cluster of cluster/up here: a soak stops and kills its processes"
        );
        let ebb = Ebb::start().await?;
        let own = |name: &str| format!("{}-{name}", fault.name().to_lowercase());
        let warm = "autoscaling.knative.dev/min-scale: \"2\"";
        let limit = |slots: usize| format!("containerConcurrency: {slots}");
        let (mut services, mut sleepers) = (Vec::new(), Vec::new());
        if fault == Fault::F24 {
            for racer in 0..RACERS {
                // Every other one has a limit, so that its requests go to an activator that owns it.
                let slots = if racer % 2 == 0 { 0 } else { 2 };
                services.push((own(&format!("zero-{racer}")), "", limit(slots)));
            }
        } else {
            services.push((own("plain"), warm, limit(0)));
            services.push((own("limited"), warm, limit(4)));
            sleepers = (0..fault.sleepers()).map(|at| own(&format!("sleeper-{at}"))).collect();
        }
        let site = Self {
            fault,
            ebb,
            services: services.iter().map(|(name, ..)| name.clone()).collect(),
            sleepers: sleepers.clone(),
        };
        for component in COMPONENTS {
            site.is_back(component).await?;
        }
        services.extend(sleepers.into_iter().map(|name| (name, "", limit(0))));
        for (name, annotations, limit) in &services {
            let spec = format!("automountServiceAccountToken: false, {limit}");
            let manifest = service(name, "ebb-backend", &[], annotations, &spec);
            site.kubectl().apply(&manifest).await?;
        }
        for (name, ..) in &services {
            site.kubectl().wait_ready(name).await?;
            site.is_known(name).await?;
        }
        Ok(site)
    }

    /// Waits until every activator knows a service, which is Ready before the last of them has heard
    /// of it.
    async fn is_known(&self, name: &str) -> anyhow::Result<()> {
        let (service, host) = (name.to_owned(), self.ebb.host(name));
        let question = Question { service, host, number: 0, wait_ms: 0, body: None };
        let mut caller = Caller::new(self.ebb.gateway);
        let (mut in_a_row, deadline) = (0, Instant::now() + BACK_WITHIN);
        while in_a_row < KNOWN_AFTER {
            caller.hang_up();
            let outcome = caller.ask(&question).await.outcome;
            ensure!(Instant::now() < deadline, "{name} is not known: {}", outcome.label);
            if outcome.label == SERVED {
                in_a_row += 1;
            } else {
                in_a_row = 0;
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// `kubectl` in the namespace of the services.
    pub(crate) fn kubectl(&self) -> Kubectl {
        // Ctrl-C ends a soak once a strike is over, and the strike needs its kubectl until then.
        self.ebb.kubectl().apart()
    }

    /// Runs `kubectl` in Ebb's own namespace.
    pub(crate) async fn system(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl().ok(&[&SYSTEM[..], arguments].concat()).await
    }

    /// One field of the pods of a component, in the order of their names.
    pub(crate) async fn pods(&self, component: &str, field: &str) -> anyhow::Result<Vec<String>> {
        let label = format!("app.kubernetes.io/component={component}");
        let path = format!("jsonpath={{.items[*]{field}}}");
        let found = self.system(&["get", "pods", "-l", &label, "-o", &path]).await?;
        ensure!(!found.trim().is_empty(), "there is no pod of component {component}");
        Ok(found.split_whitespace().map(str::to_owned).collect())
    }

    /// Waits until a component has all its pods, ready, and none of before.
    pub(crate) async fn is_back(&self, component: &str) -> anyhow::Result<()> {
        let label = format!("app.kubernetes.io/component={component}");
        let state = "jsonpath={range .items[*]}{.metadata.deletionTimestamp}/\
                     {.status.conditions[?(@.type==\"Ready\")].status} {end}";
        let deployment = format!("deployment/ebb-{component}");
        self.system(&["rollout", "status", "--timeout=110s", &deployment]).await?;
        // The Deployment's status may be one of before.
        let deadline = Instant::now() + BACK_WITHIN;
        loop {
            let found = self.system(&["get", "pods", "-l", &label, "-o", state]).await?;
            let pods: Vec<_> = found.split_whitespace().collect();
            if pods.len() == REPLICAS && pods.iter().all(|pod| *pod == "/True") {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{component} is not back: {found}");
            sleep(LOOK).await;
        }
    }

    /// Waits until the sleepers sleep, for half a minute at the most: one may be asked meanwhile.
    pub(crate) async fn falls_asleep(&self, work: &Work) -> anyhow::Result<()> {
        let selector = format!("serving.knative.dev/service in ({})", self.sleepers.join(","));
        let replicas = "jsonpath={.items[*].spec.replicas}";
        let query = ["get", "deployments", "-l", &selector, "-o", replicas];
        let deadline = Instant::now() + ASLEEP_WITHIN;
        while work.goes_on() && Instant::now() < deadline {
            let found = self.kubectl().ok(&query).await?;
            let asleep = found.split_whitespace().filter(|replicas| *replicas == "0").count();
            if asleep == self.sleepers.len() {
                break;
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until the API server answers.
    pub(crate) async fn api_is_back(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + BACK_WITHIN;
        loop {
            let ready = self.kubectl().run(&["get", "--raw", "/readyz"], None).await;
            if ready.is_ok_and(|said| said.ok) {
                return Ok(());
            }
            let late = "the API server is not back, long after the fault has ended";
            ensure!(Instant::now() < deadline, late);
            sleep(LOOK).await;
        }
    }
}

/// The processes of the cluster that have this name; none of the rest of the machine.
pub(crate) fn pids(name: &str) -> Vec<i32> {
    let named = processes::named(name).into_iter();
    named.filter(|pid| processes::is_in_group(*pid, GROUP)).collect()
}

/// The one process of the cluster that has this name.
pub(crate) fn pid(name: &str) -> anyhow::Result<i32> {
    pids(name).first().copied().with_context(|| format!("{name} does not run"))
}
