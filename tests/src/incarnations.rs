//! A Service that is deleted and made again under one name, over and over, while requests flow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;

use crate::client::Client;
use crate::ebb::Ebb;
use crate::eventually;
use crate::manifest::backend;

/// Clients, each of which sends its requests one after another.
const CLIENTS: usize = 4;
/// Pause of a client between two requests: most requests come while the Service does not exist, and
/// the machine has to make it meanwhile.
const PAUSE: Duration = Duration::from_millis(10);
const NAME: &str = "again";

/// What is certain about the Service so far.
#[derive(Debug, Default)]
struct Known {
    /// The youngest incarnation that was Ready or has answered: from then on no older one may
    /// answer.
    youngest: AtomicUsize,
    answered: AtomicUsize,
    is_over: AtomicBool,
}

/// Makes the Service `times` times, each incarnation with a text of its own. Fails when a request
/// is answered by an earlier incarnation than the one that was there when it was sent; a request
/// that gets no answer between two incarnations is no failure. Returns how many requests were
/// answered.
pub async fn follow(ebb: &Ebb, times: usize) -> anyhow::Result<usize> {
    let (kubectl, known) = (ebb.kubectl(), Arc::new(Known::default()));
    let clients =
        (0..CLIENTS).map(|_| tokio::spawn(ask(ebb.client(), ebb.host(NAME), Arc::clone(&known))));
    let clients: Vec<_> = clients.collect();
    for incarnation in 1..=times {
        kubectl.apply(&backend(NAME, &["--text", &incarnation.to_string()])).await?;
        kubectl.wait_ready(NAME).await?;
        known.youngest.fetch_max(incarnation, Ordering::SeqCst);
        let before = known.answered.load(Ordering::SeqCst);
        eventually("the new one was asked", || async {
            let asked = known.answered.load(Ordering::SeqCst) > before + CLIENTS;
            let failed = clients.iter().any(tokio::task::JoinHandle::is_finished);
            (asked || failed).then_some(())
        })
        .await;
        // Its pods are deleted after the Service, and live on for a while.
        kubectl.ok(&["delete", "ksvc", NAME]).await?;
    }
    known.is_over.store(true, Ordering::SeqCst);
    for client in join_all(clients).await {
        client??;
    }
    Ok(known.answered.load(Ordering::SeqCst))
}

async fn ask(client: Client, host: String, known: Arc<Known>) -> anyhow::Result<()> {
    while !known.is_over.load(Ordering::SeqCst) {
        tokio::time::sleep(PAUSE).await;
        let expected = known.youngest.load(Ordering::SeqCst);
        let Ok(answer) = client.get(&host, "/").await else { continue };
        if answer.status != 200 {
            continue;
        }
        let text = answer.field("text");
        let incarnation: usize = text.parse()?;
        anyhow::ensure!(
            incarnation >= expected,
            "incarnation {incarnation} answered when {expected} had taken its name"
        );
        known.youngest.fetch_max(incarnation, Ordering::SeqCst);
        known.answered.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}
