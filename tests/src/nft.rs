//! Firewall rules of a test, in the network of the cluster, with a count of the packets that they
//! dropped.

use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// A table of rules; dropping this deletes the table, and so would the end of the cluster.
#[derive(Debug)]
pub struct Table {
    name: &'static str,
}

impl Table {
    /// Loads a table of these chains.
    pub async fn load(name: &'static str, chains: &str) -> anyhow::Result<Self> {
        let rules = format!("table inet {name} {{\n{chains}\n}}\n");
        // Each nft has a process group of its own: Ctrl-C must not leave half a change behind.
        let mut nft = Command::new("nft");
        let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).process_group(0).spawn()?;
        let mut stdin = nft.stdin.take().context("it was piped")?;
        stdin.write_all(rules.as_bytes()).await?;
        drop(stdin);
        ensure!(nft.wait().await?.success(), "nft refused: {rules}");
        Ok(Self { name })
    }

    /// How many packets the rules have counted. If there are none, the test has shown nothing.
    pub async fn counted(&self) -> anyhow::Result<u64> {
        let list = ["-j", "list", "table", "inet", self.name];
        let mut nft = Command::new("nft");
        let listed = nft.args(list).stdin(Stdio::null()).process_group(0).output().await?;
        let listed: Value = serde_json::from_slice(&listed.stdout).context("nft lists no table")?;
        let items = listed["nftables"].as_array().into_iter().flatten();
        let parts = items.filter_map(|item| item["rule"]["expr"].as_array()).flatten();
        Ok(parts.filter_map(|part| part["counter"]["packets"].as_u64()).sum())
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let mut delete = std::process::Command::new("nft");
        delete.args(["delete", "table", "inet", self.name]);
        drop(delete.stdin(Stdio::null()).process_group(0).status());
    }
}
