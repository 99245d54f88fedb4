//! Which of several replicas acts: the holder of a Lease (`coordination.k8s.io/v1`).
//!
//! The rules are those of client-go's leaderelection: a lease is over when its record has not
//! changed for its duration *by our own clock*, so that clocks need not agree, and a holder stops
//! before others may begin. The times are shorter: a standby that is warm costs nothing to start,
//! so there is no reason to leave a cluster without scaling for long.

mod candidate;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use self::candidate::{Candidate, Step};

/// How long a lease holds without a renewal: the longest time without a leader after a crash.
const DURATION: Duration = Duration::from_secs(3);
/// Time from one look or renewal to the next.
const PERIOD: Duration = Duration::from_millis(750);
/// How much sooner a holder stops than others may begin: a request under way may still arrive.
const MARGIN: Duration = Duration::from_millis(500);

/// Which lease, and for whom.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Its namespace.
    pub namespace: String,
    /// Its name: the component.
    pub name: String,
    /// Who this is; no two replicas may share it.
    pub identity: String,
}

/// The term of a leader: each lead has a greater one than all before it, also where the same
/// replica leads again. Never 0.
pub type Epoch = u64;

/// Takes part in the election until `shutdown` and publishes in which term this replica leads, if
/// it does; then gives the lease back, so that another can begin at once.
///
/// Failed requests are logged and tried again. Cancelling it keeps the lease until it runs out,
/// and leaves `leads` as it is: whoever holds the other end has to end too.
pub async fn campaign(
    client: Client,
    options: LeaseOptions,
    leads: watch::Sender<Option<Epoch>>,
    shutdown: CancellationToken,
) {
    let api: Api<Lease> = Api::namespaced(client, &options.namespace);
    let mut candidate = Candidate::new(&options.name, &options.identity, DURATION, MARGIN);
    loop {
        let began = Instant::now();
        let round = attempt(&api, &mut candidate, began);
        // A request that hangs must not keep the lead beyond its time.
        let until = patience(&leads, began);
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
        let next = (began + PERIOD).max(Instant::now());
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
        drop(tokio::time::timeout(DURATION, released).await);
    }
}

/// How long one round may take: no longer than the lead it is to prolong.
fn patience(leads: &watch::Sender<Option<Epoch>>, began: Instant) -> Instant {
    if leads.borrow().is_some() { began + DURATION - MARGIN - PERIOD } else { began + DURATION }
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
        // Somebody else was quicker; the next look shows who.
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
