//! Measures Ebb on a cluster beside bare Deployments on the same cluster.
//!
//! Run by cluster/bench inside the cluster's network.

mod bursts;
mod floor;
mod memory;
mod wake;
mod writes;

use std::time::Duration;

use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::service;
use kube::Client;

use self::floor::Token;
use crate::figures::Figure;
use crate::note;

/// Time for the cluster to come to rest before each measurement: status writes of a scale-down that
/// are not urgent come up to two ticks of the autoscaler (4 s) and 5 s of the controller later.
const REST: Duration = Duration::from_secs(10);
/// Pairs with a mounted token: enough to tell whether it makes a difference to Ebb.
const TOKEN_PAIRS: usize = 3;

/// The Ebb and the namespace in which everything is measured.
pub(crate) struct Site {
    ebb: Ebb,
    client: Client,
    namespace: String,
}

impl Site {
    async fn open() -> anyhow::Result<Self> {
        let ebb = Ebb::start_quick().await?;
        let config = ebb.api().await?;
        let namespace = config.default_namespace.clone();
        Ok(Self { ebb, client: Client::try_from(config)?, namespace })
    }

    /// Deploys the backend as a service and lets it fall asleep.
    async fn sleeper(&self, name: &str, token: Token) -> anyhow::Result<()> {
        let kubectl = self.ebb.kubectl();
        kubectl.apply(&model(name, token)).await?;
        kubectl.wait_ready(name).await?;
        self.asleep(name).await;
        Ok(())
    }

    async fn asleep(&self, name: &str) {
        self.ebb.kubectl().wait_asleep(name).await;
        tokio::time::sleep(REST).await;
    }
}

/// The backend as a service.
fn model(name: &str, token: Token) -> String {
    let spec = match token {
        Token::None => "automountServiceAccountToken: false",
        Token::Mounted => "",
    };
    service(name, "ebb-backend", &[], "", spec)
}

pub(crate) async fn measure(pairs: usize) -> anyhow::Result<Vec<Figure>> {
    let site = Site::open().await?;
    let mut figures = Vec::new();
    note("memory of the three components, idle");
    tokio::time::sleep(REST).await;
    figures.extend(memory::measure());
    note("time from zero to the first byte");
    figures.extend(wake::measure(&site, pairs, Token::None).await?);
    figures.extend(wake::measure(&site, pairs.min(TOKEN_PAIRS), Token::Mounted).await?);
    note("writes to etcd");
    figures.extend(writes::measure(&site).await?);
    note("thirty services at once");
    figures.extend(bursts::measure(&site).await?);
    tokio::time::sleep(REST).await;
    figures.push(memory::together("memory of one of each, after all this"));
    Ok(figures)
}
