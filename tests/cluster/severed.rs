//! The network drops established connections to the API server silently: no reset comes, packets
//! vanish in both directions. New connections work.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use ebb_tests::ebb::Ebb;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::backend;
use ebb_tests::nft::Table;
use tokio::process::Command;
use tokio::time::Instant;

/// A wake that loses every connection is served within this time; it once took a quarter of an
/// hour.
const SERVED_WITHIN: Duration = Duration::from_secs(5);
/// Name of the table with the rules that drop.
const TABLE: &str = "ebb_severed";

/// The other ends of the API server's connections with Ebb's pods, as its machine sees them.
async fn connections(kubectl: &Kubectl) -> anyhow::Result<BTreeSet<SocketAddr>> {
    let pods = ["get", "pods", "-n", "knative-serving", "-l", "app.kubernetes.io/name=ebb", "-o"];
    let pods = kubectl.ok(&[&pods[..], &["jsonpath={.items[*].status.podIP}"]].concat()).await?;
    let pods: BTreeSet<IpAddr> = pods.split_whitespace().filter_map(|ip| ip.parse().ok()).collect();
    ensure!(!pods.is_empty(), "Ebb has no pods");
    let listed = Command::new("ss").args(["-Htn", "state", "established"]).output().await?;
    // RECV-Q SEND-Q LOCAL PEER; an IPv4 address may be written as one of IPv6.
    let peer = |line: &str| -> Option<SocketAddr> {
        line.split_whitespace().nth(3)?.replace("[::ffff:", "").replace(']', "").parse().ok()
    };
    let text = String::from_utf8_lossy(&listed.stdout);
    Ok(text.lines().filter_map(peer).filter(|peer| pods.contains(&peer.ip())).collect())
}

/// Drops every packet of these connections for as long as the table lives.
async fn sever(connections: &BTreeSet<SocketAddr>) -> anyhow::Result<Table> {
    let ends: Vec<_> =
        connections.iter().map(|end| format!("{} . {}", end.ip(), end.port())).collect();
    let chains = format!(
        "set gone {{ type ipv4_addr . inet_service; elements = {{ {} }}; }}
         chain from {{
           type filter hook prerouting priority -310; policy accept;
           ip saddr . tcp sport @gone counter drop
         }}
         chain to {{
           type filter hook output priority -310; policy accept;
           ip daddr . tcp dport @gone counter drop
         }}",
        ends.join(", ")
    );
    Table::load(TABLE, &chains).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wake_that_loses_its_connections_to_the_api_server_is_served() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("hello", &[])).await?;
    kubectl.wait_ready("hello").await?;
    kubectl.wait_asleep("hello").await;
    let connections = connections(&kubectl).await?;
    if connections.is_empty() {
        println!("left out: the API server is on another machine, or seen through a proxy");
        return Ok(());
    }
    let began = Instant::now();
    let (client, host) = (ebb.client(), ebb.host("hello"));
    let asking = tokio::spawn(async move { client.get(&host, "/").await });
    let severed = sever(&connections).await?;
    let answer = asking.await??;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let took = began.elapsed();
    assert!(took < SERVED_WITHIN, "{took:?} with {} connections", connections.len());
    // The watches recover within a minute each: the autoscaler's, then the controller's, then the
    // activators'.
    kubectl.wait_asleep("hello").await;
    kubectl.apply(&backend("later", &[])).await?;
    kubectl.wait_ready("later").await?;
    let answer = ebb.client().get(&ebb.host("later"), "/").await?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(severed.counted().await? > 0, "no connection was severed");
    drop(severed);
    Ok(())
}
