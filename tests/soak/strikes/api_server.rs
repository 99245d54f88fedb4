//! The API server away or slow.

use std::time::Duration;

use anyhow::ensure;
use ebb_tests::nft::Table;
use rand::RngExt as _;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep};

use super::signals::Stopped;
use crate::site::{Site, pid};
use crate::work::Work;

/// How long the API server is away. Not longer: a node that was not heard of for 40 s is taken for
/// lost by Kubernetes itself, with all its pods, activators included.
const AWAY_MS: std::ops::RangeInclusive<u64> = 2_000..=25_000;
/// How long it is slow.
const SLOW_MS: std::ops::RangeInclusive<u64> = 5_000..=15_000;
/// How long etcd does nothing before it works for [`TURN`]: that is what a write then takes.
const ETCD_MS: std::ops::RangeInclusive<u64> = 100..=2_000;
/// The same for the API server, which needs many turns for one answer.
const API_SERVER_MS: std::ops::RangeInclusive<u64> = 20..=200;
/// How long a process works between two stops.
const TURN: Duration = Duration::from_millis(30);
/// The rules that refuse connections, those that exist included. They are those of the machine
/// itself (kubelet), of the pods' network, and of Services after their address was translated.
const REFUSE: &str = "chain in {
    type filter hook input priority -10; policy accept;
    tcp dport 6443 counter reject with tcp reset
  }";

/// Stops the API server or has its connections refused, for a while.
pub(super) async fn take_away(
    site: &Site,
    work: &Work,
    chance: &mut SmallRng,
) -> anyhow::Result<()> {
    let time = Duration::from_millis(chance.random_range(AWAY_MS));
    if chance.random_range(0..2) == 0 {
        let stopped = Stopped::new(pid("kube-apiserver")?)?;
        sleep(time).await;
        drop(stopped);
        work.ease();
    } else {
        let table = Table::load("ebb_soak_api", REFUSE).await?;
        sleep(time).await;
        ensure!(table.counted().await? > 0, "nobody asked the API server for {time:?}");
        drop(table);
        work.ease();
    }
    site.api_is_back().await
}

/// Lets etcd or the API server work in short turns only, for a while.
pub(super) async fn slow_down(
    site: &Site,
    work: &Work,
    chance: &mut SmallRng,
) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_millis(chance.random_range(SLOW_MS));
    let is_etcd = chance.random_range(0..3) > 0;
    let (name, pauses) =
        if is_etcd { ("etcd", ETCD_MS) } else { ("kube-apiserver", API_SERVER_MS) };
    let pid = pid(name)?;
    while Instant::now() < end {
        let stopped = Stopped::new(pid)?;
        sleep(Duration::from_millis(chance.random_range(pauses.clone()))).await;
        drop(stopped);
        sleep(TURN).await;
    }
    work.ease();
    site.api_is_back().await
}
