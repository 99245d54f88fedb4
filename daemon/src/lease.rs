//! Which of several replicas acts: the holder of a Lease (`coordination.k8s.io/v1`).
//!
//! The rules are those of client-go's leaderelection: a lease is over when its record has not
//! changed for its duration *by our own clock*, so that clocks need not agree, and a holder stops
//! before others may begin.
//!
//! A short lease is no cure for a crash: Kubernetes restarts the container in place, and a replica
//! of the same name takes its lease back at once. Nor does an orderly end need one, for it gives
//! the lease back. The duration is waited out only when a node is lost or a process hangs. With a
//! short one, an API server that is slow for some seconds would change the lead again and again. So
//! a lease must bear answers that take 5 s, each of them.

mod candidate;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

pub use self::candidate::Epoch;
use self::candidate::{Candidate, Step};

/// The times of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long it holds without a renewal: the longest time without a leader.
    duration: Duration,
    /// Time from one look or renewal to the next.
    period: Duration,
    /// How much sooner a holder stops than others may begin: a request under way may still arrive.
    margin: Duration,
}

/// The lease, and the candidate for it.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Its namespace.
    pub namespace: String,
    /// Its name: the component.
    pub name: String,
    /// Name of the candidate; no two replicas may share it.
    pub identity: String,
    /// Its times.
    pub terms: Terms,
}

// === impl Terms ===

impl Terms {
    /// The times of a lease of `seconds`. A holder counts from the beginning of the request that
    /// renewed it, so that each answer may take 7/16 of the duration: 5 s of 12, 6.5 s of 15.
    pub fn of(seconds: u64) -> Self {
        let duration = Duration::from_secs(seconds);
        Self { duration, period: duration / 8, margin: duration / 8 }
    }
}

/// Takes part in the election until `shutdown` and publishes in which term this replica leads, if
/// it does; then gives the lease back, so that another can begin at once.
///
/// Failed requests are logged and tried again. Dropping the future keeps the lease until it runs
/// out, and leaves `leads` as it is: the task that reads it has to end too.
pub async fn campaign(
    client: Client,
    options: LeaseOptions,
    leads: watch::Sender<Option<Epoch>>,
    shutdown: CancellationToken,
) {
    let api: Api<Lease> = Api::namespaced(client, &options.namespace);
    let Terms { duration, period, margin } = options.terms;
    let mut candidate = Candidate::new(&options.name, &options.identity, duration, margin);
    loop {
        let began = Instant::now();
        // A request that hangs must not keep the lead beyond its time; until then its answer may
        // still come.
        let until = candidate.leads_until(began).unwrap_or(began + duration);
        let round = attempt(&api, &mut candidate, began);
        tokio::select! {
            () = shutdown.cancelled() => break,
            outcome = timeout_at(until, round) => match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(lease.name = options.name, %error, "Cannot ask for the lease");
                }
                Err(_) => {
                    tracing::warn!(lease.name = options.name, "No answer about the lease in time");
                }
            }
        }
        publish(&leads, candidate.leads(Instant::now()), &options);
        // The end of the lead is told on time, however late the next round would be.
        let now = Instant::now();
        let next = (began + period).max(now);
        let next = candidate.leads_until(now).map_or(next, |until| next.min(until));
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = sleep_until(next) => {}
        }
        publish(&leads, candidate.leads(Instant::now()), &options);
    }
    publish(&leads, None, &options);
    if let Some(lease) = candidate.release(Timestamp::now()) {
        // Best effort: it runs out by itself.
        let parameters = PostParams::default();
        let released = api.replace(&options.name, &parameters, &lease);
        drop(tokio::time::timeout(duration, released).await);
    }
}

async fn attempt(api: &Api<Lease>, candidate: &mut Candidate, began: Instant) -> Result<(), Error> {
    if let Some(lease) = candidate.renewal(Instant::now(), Timestamp::now()) {
        match api.replace(candidate.lease(), &PostParams::default(), &lease).await {
            Ok(lease) => {
                candidate.acquired(lease, began);
                return Ok(());
            }
            // Deleted, or changed by somebody else: look what is there now.
            Err(Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error),
        }
    }
    let stored = api.get_opt(candidate.lease()).await?;
    let written = match candidate.step(stored, Instant::now(), Timestamp::now()) {
        Step::Wait => return Ok(()),
        Step::Create(lease) => api.create(&PostParams::default(), &lease).await,
        Step::Replace(lease) => {
            api.replace(candidate.lease(), &PostParams::default(), &lease).await
        }
    };
    match written {
        // Counted from before the request: the server may have stored it at any time since.
        Ok(lease) => candidate.acquired(lease, began),
        // Another candidate was quicker; the next look shows which.
        Err(Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn publish(leads: &watch::Sender<Option<Epoch>>, leading: Option<Epoch>, options: &LeaseOptions) {
    leads.send_if_modified(|current| {
        let changed = *current != leading;
        if changed {
            let LeaseOptions { name, identity, .. } = options;
            let stands = if leading.is_some() { "leads" } else { "stands by" };
            tracing::info!(lease.name = name, identity, epoch = leading, "This replica {stands}");
        }
        *current = leading;
        changed
    });
}
