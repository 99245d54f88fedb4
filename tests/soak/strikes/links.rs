//! Links of the network that are cut: between activators and autoscalers, and to the webhook.

use std::time::Duration;

use anyhow::ensure;
use ebb_tests::nft::Table;
use rand::RngExt as _;
use rand::rngs::SmallRng;
use tokio::time::sleep;

use crate::site::Site;
use crate::work::Work;

/// How long a link is cut.
const CUT_MS: std::ops::RangeInclusive<u64> = 3_000..=20_000;

/// Cuts one or all activators off from the autoscalers: what they report, what they are told, both,
/// or half of the packets.
pub(super) async fn cut_reports(
    site: &Site,
    work: &Work,
    chance: &mut SmallRng,
) -> anyhow::Result<()> {
    let mut activators = site.pods("activator", ".status.podIP").await?;
    let autoscalers = site.pods("autoscaler", ".status.podIP").await?.join(", ");
    if chance.random_range(0..2) == 0 {
        activators.truncate(1);
    }
    let activators = activators.join(", ");
    let way = |from: &str, to: &str, port: &str, loss: &str| {
        format!("ip saddr {{ {from} }} ip daddr {{ {to} }} tcp {port} 8080 {loss} counter drop\n")
    };
    let reports = |loss| way(&activators, &autoscalers, "dport", loss);
    let answers = |loss| way(&autoscalers, &activators, "sport", loss);
    let half = "numgen random mod 2 == 0";
    let rules = match chance.random_range(0..4) {
        0 => reports(""),
        1 => answers(""),
        2 => reports("") + &answers(""),
        _ => reports(half) + &answers(half),
    };
    // Before the rules of kube-proxy; packets between pods on one bridge pass this hook.
    let chain =
        format!("chain cut {{ type filter hook forward priority -10; policy accept;\n{rules} }}");
    let table = Table::load("ebb_soak_reports", &chain).await?;
    sleep(Duration::from_millis(chance.random_range(CUT_MS))).await;
    ensure!(table.counted().await? > 0, "the autoscalers had nothing to hear");
    drop(table);
    work.ease();
    Ok(())
}

/// Keeps the API server from the webhook, whose answers are dropped or refused. Other objects can
/// be written meanwhile.
pub(super) async fn cut_webhook(
    site: &Site,
    work: &Work,
    chance: &mut SmallRng,
) -> anyhow::Result<()> {
    let controllers = site.pods("controller", ".status.podIP").await?.join(", ");
    let end = if chance.random_range(0..2) == 0 { "drop" } else { "reject with tcp reset" };
    // The API server has the machine's own address: its packets pass the hook for output, after
    // the Service's address was translated.
    let chain = format!(
        "chain cut {{ type filter hook output priority -10; policy accept;
           ip daddr {{ {controllers} }} tcp dport 8443 counter {end}\n }}"
    );
    let table = Table::load("ebb_soak_webhook", &chain).await?;
    let other = "{apiVersion: v1, kind: ConfigMap, metadata: {name: other}}";
    site.kubectl().apply(other).await?;
    // Whether it is taken is the webhook's failurePolicy; here it makes the API server try.
    let object = format!("ksvc/{}", site.services[0]);
    let mark = format!("soak={}", chance.random_range(0..1_000_000));
    let tried = ["annotate", "--overwrite", &object, &mark];
    site.kubectl().run(&tried, None).await?;
    sleep(Duration::from_millis(chance.random_range(CUT_MS))).await;
    ensure!(table.counted().await? > 0, "nobody asked the webhook");
    drop(table);
    work.ease();
    site.kubectl().apply(other).await.map(drop)
}
