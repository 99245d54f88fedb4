//! Requests without a pause, from several clients, while something is done to Ebb.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ebb_tests::ebb::Ebb;
use futures::future::join_all;
use tokio::task::JoinHandle;

/// Clients, each of which sends its requests one after another without a pause.
const CLIENTS: usize = 4;

/// Requests that go on until they are told to end.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Load {
    /// Starts the requests.
    pub(crate) fn on(ebb: &Ebb, service: &str) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let ask = |_| {
            let (client, host) = (ebb.client(), ebb.host(service));
            let (stop, answered) = (stop.clone(), answered.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.get(&host, "/sleep?ms=5").await?;
                    anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let clients = (0..CLIENTS).map(ask).collect();
        Self { stop, answered, clients }
    }

    /// Ends the requests. Returns how many were answered, or an error if one was not.
    pub(crate) async fn end(self) -> anyhow::Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        for client in join_all(self.clients).await {
            client??;
        }
        Ok(self.answered.load(Ordering::Relaxed))
    }
}
