//! Upgraded connections: bytes both ways after the pod said 101, until both ends are done.
//!
//! Nothing a client sends after its request reaches the pod before the pod has agreed
//! (CVE-2026-2833 was a proxy that forwarded early). A tunnel counts as a request in flight until
//! it is closed.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, header};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::body::ProxyBody;
use crate::guard::Busy;
use crate::headers;
use crate::places::{Place, Places};
use crate::upstream::Lease;
use crate::visit::Stay;

/// Longest tunnel, with or without `timeoutSeconds`: a day, so that an end that is gone without a
/// word does not hold its slot for ever.
const TUNNEL_TIMEOUT: Duration = Duration::from_hours(24);

/// All tunnels of an activator.
#[derive(Debug)]
pub(crate) struct Tunnels {
    tasks: Mutex<JoinSet<()>>,
    places: Arc<Places>,
}

/// Held by an open tunnel and released when it closes.
pub(crate) struct Held {
    pub(crate) lease: Lease,
    /// All else: its part in the load, its places among the tunnels and the connections.
    #[expect(dead_code, reason = "held, never looked at")]
    pub(crate) rest: (Stay, Busy, Place, Option<Arc<Place>>),
}

impl Tunnels {
    /// No tunnels; each will have one of `places`.
    pub(crate) fn new(places: Arc<Places>) -> Self {
        Self { tasks: Mutex::default(), places }
    }

    /// A place for a tunnel, to be had before a pod is asked for one.
    pub(crate) fn place(&self) -> Option<Place> {
        self.places.take_any()
    }

    /// Answers 101 and lets the bytes flow, until `end` at the latest. `held` is released when the
    /// tunnel closes.
    pub(crate) fn open(
        &self,
        mut response: Response<Incoming>,
        client: OnUpgrade,
        held: Held,
        end: Option<Instant>,
    ) -> Response<ProxyBody> {
        let pod = hyper::upgrade::on(&mut response);
        let longest = Instant::now() + TUNNEL_TIMEOUT;
        let end = end.map_or(longest, |end| end.min(longest));
        let mut tunnels = self.tasks.lock();
        while tunnels.try_join_next().is_some() {}
        tunnels.spawn(async move {
            let retired = held.lease.retired();
            let copy = async {
                let (client, pod) = futures::try_join!(client, pod)?;
                let (mut client, mut pod) = (TokioIo::new(client), TokioIo::new(pod));
                copy_bidirectional(&mut client, &mut pod).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            };
            tokio::select! {
                copied = timeout_at(end, copy) => match copied {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(error, "Tunnel broke"),
                    Err(_) => tracing::debug!("Tunnel closed after its longest time"),
                },
                () = retired.cancelled() => tracing::debug!("Tunnel closed: its pod is gone"),
            }
            drop(held);
        });
        drop(tunnels);
        let (mut parts, _) = response.into_parts();
        let protocol = parts.headers.get(header::UPGRADE).cloned();
        headers::for_client(&mut parts.headers);
        if let Some(protocol) = protocol {
            parts.headers.insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
            parts.headers.insert(header::UPGRADE, protocol);
        }
        Response::from_parts(parts, ProxyBody::empty())
    }

    /// Waits until all tunnels are closed; dropping the future closes those that are left.
    pub(crate) async fn close(&self) {
        let mut tunnels = std::mem::take(&mut *self.tasks.lock());
        while tunnels.join_next().await.is_some() {}
    }
}
