//! Components of Ebb that end: orderly, by force, or to be replaced.

use std::time::Duration;

use anyhow::ensure;
use rand::RngExt as _;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep};

use super::signals;
use crate::site::{COMPONENTS, Site, pids};
use crate::work::{KNOWN_AFTER, Work};

/// The name of an activator's process.
const ACTIVATOR: &str = "ebb-activator";
/// The name of an autoscaler's process.
const AUTOSCALER: &str = "ebb-autoscaler";
/// How long no autoscaler lives.
const DEAD_MS: std::ops::RangeInclusive<u64> = 1_000..=15_000;
/// How long clients ask while a killed activator is gone or comes back.
const KILLED_MS: std::ops::RangeInclusive<u64> = 3_000..=10_000;
/// How often an autoscaler that kubelet has started again is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Deletes one activator, each in its turn, which ends it by SIGTERM; its Deployment makes another.
pub(super) async fn replace(site: &Site, work: &Work, number: u64) -> anyhow::Result<()> {
    let pods = site.pods("activator", ".metadata.name").await?;
    let turn = usize::try_from(number)? % pods.len();
    // Until the pod is gone, its last requests with it.
    site.system(&["delete", "pod", &pods[turn], "--timeout=110s"]).await?;
    work.ease();
    site.is_back("activator").await
}

/// Kills one activator: the one that has run for longer, so that each is killed in its turn. Kubelet
/// starts it again.
pub(super) async fn kill_one(
    site: &Site,
    work: &Work,
    chance: &mut SmallRng,
) -> anyhow::Result<()> {
    let mut living = pids(ACTIVATOR);
    ensure!(living.len() > 1, "there are no two activators to kill one of");
    living.sort_unstable();
    // The fault counts from a second after the kill.
    work.ease();
    work.kill();
    signals::end(living[0]);
    sleep(KNOWN_AFTER).await;
    work.strike();
    sleep(Duration::from_millis(chance.random_range(KILLED_MS))).await;
    work.ease();
    site.is_back("activator").await?;
    // Kubelet waits longer after each death of a container; a new pod begins anew.
    let names = site.pods("activator", ".metadata.name").await?;
    let restarts = site.pods("activator", ".status.containerStatuses[0].restartCount").await?;
    for (name, _) in names.iter().zip(&restarts).filter(|(_, restarts)| *restarts != "0") {
        site.system(&["delete", "pod", name, "--timeout=110s"]).await?;
    }
    site.is_back("activator").await
}

/// Kills all autoscalers once the sleepers sleep, and again whenever kubelet has started one anew.
pub(super) async fn keep_dead(
    site: &Site,
    work: &Work,
    chance: &mut SmallRng,
) -> anyhow::Result<()> {
    ensure!(pids(AUTOSCALER).len() > 1, "there are no two autoscalers to kill");
    work.ease();
    site.falls_asleep(work).await?;
    work.strike();
    let end = Instant::now() + Duration::from_millis(chance.random_range(DEAD_MS));
    while Instant::now() < end {
        pids(AUTOSCALER).into_iter().for_each(signals::end);
        sleep(LOOK).await;
    }
    work.ease();
    // Kubelet waits longer after each death of a container; a new pod begins anew.
    let label = "app.kubernetes.io/component=autoscaler";
    let at_once = ["--grace-period=0", "--force", "--timeout=110s"];
    site.system(&[&["delete", "pods", "-l", label], &at_once[..]].concat()).await?;
    site.is_back("autoscaler").await
}

/// Replaces every component, as an upgrade to the same version does: one after another, or all at
/// once.
pub(super) async fn roll(site: &Site, number: u64) -> anyhow::Result<()> {
    let names = COMPONENTS.map(|component| format!("deployment/ebb-{component}"));
    if number % 2 == 1 {
        let all = names.iter().map(String::as_str).collect::<Vec<_>>();
        site.system(&[&["rollout", "restart"], &all[..]].concat()).await?;
        for component in COMPONENTS {
            site.is_back(component).await?;
        }
        return Ok(());
    }
    for (component, name) in COMPONENTS.into_iter().zip(&names) {
        site.system(&["rollout", "restart", name]).await?;
        site.is_back(component).await?;
    }
    Ok(())
}
