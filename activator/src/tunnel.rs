//! Upgraded connections: bytes both ways after the pod said 101, until either end is done.
//!
//! Nothing a client sends after its request reaches the pod before the pod has agreed (CVE-2026-2833
//! was a proxy that forwarded early). A tunnel counts as a request in flight until it is closed.

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
use crate::upstream::Lease;
use crate::visit::Stay;

/// Longest tunnel of a revision without `timeoutSeconds`: a day, so that a peer that is gone without
/// a word does not hold its slot for ever.
const TUNNEL_TIMEOUT: Duration = Duration::from_hours(24);

/// All tunnels of an activator.
#[derive(Debug, Default)]
pub(crate) struct Tunnels(Mutex<JoinSet<()>>);

impl Tunnels {
    /// Answers 101 and lets the bytes flow, until `end` at the latest. `held` is let go when the
    /// tunnel closes.
    pub(crate) fn open(
        &self,
        mut response: Response<Incoming>,
        client: OnUpgrade,
        held: (Stay, Lease, Busy),
        end: Option<Instant>,
    ) -> Response<ProxyBody> {
        let pod = hyper::upgrade::on(&mut response);
        let longest = Instant::now() + TUNNEL_TIMEOUT;
        let end = end.map_or(longest, |end| end.min(longest));
        let mut tunnels = self.0.lock();
        while tunnels.try_join_next().is_some() {}
        tunnels.spawn(async move {
            let _held = held;
            let copy = async {
                let (client, pod) = futures::try_join!(client, pod)?;
                let (mut client, mut pod) = (TokioIo::new(client), TokioIo::new(pod));
                copy_bidirectional(&mut client, &mut pod).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            };
            match timeout_at(end, copy).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(error, "Tunnel broke"),
                Err(_) => tracing::debug!("Tunnel closed after its longest time"),
            }
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
        let mut tunnels = std::mem::take(&mut *self.0.lock());
        while tunnels.join_next().await.is_some() {}
    }
}
