//! Report streams over the network: this activator's reports to every replica of the autoscaler,
//! and their drain orders back.
//!
//! Every replica hears everything, so that whichever leads next knows the load already. Reports
//! and orders are level-triggered: what a broken stream loses, the next report or order says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ebb_api::report::{DrainOrder, LINE_BYTES_MAX, LINES_MEDIA_TYPE, Report, STREAM_PATH};
use futures::{StreamExt as _, TryStreamExt as _};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;

use crate::Activator;
use crate::observer::ReportSink;

/// Most replicas of the autoscaler that are told; one leads and a few stand by.
const AUTOSCALERS_MAX: usize = 8;
/// Time from one look at the addresses of the autoscaler to the next.
const RESOLVE_EVERY: Duration = Duration::from_secs(2);
/// Longest time for a look, and for a connection with its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pauses between attempts: a replica that restarts is found within a report's interval.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// A replica that does not answer a ping for so long is taken for dead.
const PING_EVERY: Duration = Duration::from_secs(2);
/// Reports that wait at most for one replica. An old one says nothing that a new one does not.
const REPORTS_WAITING_MAX: usize = 4;

/// The way of reports to the autoscalers. Cheap to clone; reports go nowhere until [`run`].
///
/// [`run`]: ReportStreams::run
#[derive(Clone, Debug)]
pub struct ReportStreams {
    outlets: Arc<Mutex<BTreeMap<SocketAddr, Arc<Outlet>>>>,
    dropped: Counter,
    open: Gauge,
}

/// Encoded reports on their way to one replica.
#[derive(Debug, Default)]
struct Outlet {
    waiting: Mutex<VecDeque<Bytes>>,
    arrived: Notify,
}

/// Why a stream is not, or no longer, there.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("no connection within {CONNECT_TIMEOUT:?}")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error("no connection: {0}")]
    Connect(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the autoscaler answers {0}")]
    Refused(StatusCode),
    #[error("an order cannot be read: {0}")]
    Order(#[from] serde_json::Error),
    #[error("an order broke off: {0}")]
    Line(#[from] tokio_util::codec::LinesCodecError),
    #[error("the autoscaler ended it")]
    Ended,
}

// === impl ReportStreams ===

impl ReportStreams {
    /// No stream yet; metrics go to the registry.
    pub fn new(registry: &mut Registry) -> Self {
        let (dropped, open) = (Counter::default(), Gauge::default());
        let registry = registry.sub_registry_with_prefix("ebb_activator");
        registry.register(
            "reports_dropped",
            "Reports that a newer one took the place of before they were sent",
            dropped.clone(),
        );
        registry.register("report_streams", "Autoscalers that hear the reports", open.clone());
        Self { outlets: Arc::default(), dropped, open }
    }

    /// Keeps a stream to every address of the `autoscalers` (`host:port`) until `shutdown`, and
    /// obeys the drain orders that come back. Addresses are looked up again and again: a host with
    /// one address for each replica (a headless Service) reaches all of them.
    pub async fn run(
        &self,
        activator: Activator,
        autoscalers: &[String],
        shutdown: CancellationToken,
    ) {
        let mut tasks: BTreeMap<SocketAddr, AbortHandle> = BTreeMap::new();
        let mut was_found = true;
        loop {
            let found = resolve(autoscalers).await;
            if found.is_none() && was_found {
                tracing::warn!(?autoscalers, "No address of the autoscaler is known");
            }
            was_found = found.is_some();
            // A name service that fails for a while is no reason to fall silent.
            if let Some(addresses) = found {
                tasks.retain(|address, task| {
                    let stays = addresses.contains(address);
                    if !stays {
                        task.abort();
                        self.outlets.lock().remove(address);
                    }
                    stays
                });
                for address in addresses {
                    tasks.entry(address).or_insert_with(|| self.start(address, &activator));
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = sleep(RESOLVE_EVERY) => {}
            }
        }
        self.outlets.lock().clear();
        for task in tasks.values() {
            task.abort();
        }
    }

    fn start(&self, address: SocketAddr, activator: &Activator) -> AbortHandle {
        let outlet = Arc::new(Outlet::default());
        self.outlets.lock().insert(address, outlet.clone());
        let (open, activator) = (self.open.clone(), activator.clone());
        tokio::spawn(keep(address, outlet, open, activator)).abort_handle()
    }
}

impl ReportSink for ReportStreams {
    fn report(&self, report: Report) {
        let Ok(mut line) = serde_json::to_vec(&report) else {
            return;
        };
        line.push(b'\n');
        if line.len() > LINE_BYTES_MAX {
            self.dropped.inc();
            return;
        }
        let line = Bytes::from(line);
        for outlet in self.outlets.lock().values() {
            if outlet.put(line.clone()) {
                self.dropped.inc();
            }
        }
    }
}

/// The addresses of all hosts; nothing when there is none, or one host's are not known now.
async fn resolve(hosts: &[String]) -> Option<BTreeSet<SocketAddr>> {
    let mut addresses = BTreeSet::new();
    for host in hosts {
        let found = timeout(CONNECT_TIMEOUT, tokio::net::lookup_host(host)).await.ok()?.ok()?;
        addresses.extend(found);
    }
    let addresses: BTreeSet<_> = addresses.into_iter().take(AUTOSCALERS_MAX).collect();
    (!addresses.is_empty()).then_some(addresses)
}

// === impl Outlet ===

impl Outlet {
    /// Lets a report wait; true when an older one made room.
    fn put(&self, line: Bytes) -> bool {
        let mut waiting = self.waiting.lock();
        let is_full = waiting.len() >= REPORTS_WAITING_MAX;
        if is_full {
            waiting.pop_front();
        }
        waiting.push_back(line);
        drop(waiting);
        self.arrived.notify_one();
        is_full
    }

    async fn next(&self) -> Bytes {
        loop {
            if let Some(line) = self.waiting.lock().pop_front() {
                return line;
            }
            self.arrived.notified().await;
        }
    }
}

/// Keeps a stream to one replica, for ever.
async fn keep(address: SocketAddr, outlet: Arc<Outlet>, open: Gauge, activator: Activator) {
    let mut pause = RETRY_MIN;
    loop {
        let error = match connect(address, outlet.clone()).await {
            Ok(orders) => {
                tracing::info!(%address, "An autoscaler hears the reports");
                pause = RETRY_MIN;
                let _open = Open::new(&open);
                // It may know nothing yet: what is in flight must not wait for the next second.
                activator.report();
                obey(orders, &activator).await.err().unwrap_or(Broken::Ended)
            }
            Err(error) => error,
        };
        tracing::debug!(%address, %error, ?pause, "A report stream is tried again");
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Opens a stream: its body is what comes out of `outlet`, the response brings orders.
async fn connect(address: SocketAddr, outlet: Arc<Outlet>) -> Result<Incoming, Broken> {
    let body = futures::stream::unfold(outlet, |outlet| async move {
        let line = outlet.next().await;
        Some((Ok::<_, Infallible>(Frame::data(line)), outlet))
    });
    let request = Request::post(format!("http://{address}{STREAM_PATH}"))
        .header(header::CONTENT_TYPE, LINES_MEDIA_TYPE)
        .body(StreamBody::new(body).boxed_unsync())
        .expect("an address is an authority");
    let handshake = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok::<_, Broken>((sender, connection))
    };
    let (mut sender, connection) = timeout(CONNECT_TIMEOUT, handshake).await??;
    // Ends with the last of its streams, or when a ping is not answered.
    tokio::spawn(connection);
    let response = timeout(CONNECT_TIMEOUT, sender.send_request(request)).await??;
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        status => Err(Broken::Refused(status)),
    }
}

/// Obeys orders until the stream ends.
async fn obey(orders: Incoming, activator: &Activator) -> Result<(), Broken> {
    let bytes = orders.into_data_stream().map_err(std::io::Error::other);
    let codec = LinesCodec::new_with_max_length(LINE_BYTES_MAX);
    let mut lines = FramedRead::new(StreamReader::new(bytes), codec);
    while let Some(line) = lines.next().await {
        let order: DrainOrder = serde_json::from_str(&line?)?;
        activator.drain(&order);
    }
    Ok(())
}

/// Counts an open stream for as long as it lives.
struct Open<'a>(&'a Gauge);

impl<'a> Open<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
