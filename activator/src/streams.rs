//! Report streams over the network: this activator's reports to every replica of the autoscaler,
//! and their drain orders back.
//!
//! Every replica gets every report, so that the next leader knows the load already. Reports and
//! orders are level-triggered: what a broken stream loses, the next one begins with. Each report is
//! answered, which shows how long no autoscaler has listened.

mod outlet;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ebb_api::report::wire::{Answer, Encoder, LINE_BYTES_MAX, WireError};
use ebb_api::report::{LINES_MEDIA_TYPE, Report, STREAM_PATH, Scope};
use ebb_daemon::identity::{self, Shown};
use futures::{StreamExt as _, TryStreamExt as _};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::outlet::{Displaced, Outlet};
use crate::activator::Activator;
use crate::connect::Connect;
use crate::observer::ReportSink;

/// Most replicas of the autoscaler that get the reports; one leads and a few stand by.
const AUTOSCALERS_MAX: usize = 8;
/// Time from one lookup of the autoscaler's addresses to the next.
const RESOLVE_EVERY: Duration = Duration::from_secs(2);
/// Longest time for a lookup, and for a connection with its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pauses between attempts: a replica that restarts is found within a report's interval.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Time between pings; a replica that does not answer one for as long is taken for dead.
const PING_EVERY: Duration = Duration::from_secs(2);

/// Carries reports to the autoscalers. Cheap to clone; reports go nowhere until [`run`].
///
/// [`run`]: ReportStreams::run
#[derive(Clone)]
pub struct ReportStreams {
    id: Arc<str>,
    connect: Arc<dyn Connect>,
    /// The token, if any, that this activator shows.
    shown: Shown,
    shared: Arc<Mutex<Shared>>,
    /// When an autoscaler last answered; before the first answer, when this was made.
    answered: Arc<Mutex<Instant>>,
    merged: Counter,
    dropped: Counter,
    open: Gauge,
}

#[derive(Debug, Default)]
struct Shared {
    outlets: BTreeMap<SocketAddr, Arc<Outlet>>,
    /// The last report of an interval: what a new stream begins with.
    latest: Option<Arc<Report>>,
}

/// What the streams to one replica need.
struct Link {
    address: SocketAddr,
    streams: ReportStreams,
    activator: Activator,
}

/// One stream: the answers, and the connection, which ends when this is dropped.
struct Stream {
    answers: Incoming,
    _connection: AbortOnDropHandle<Result<(), hyper::Error>>,
}

/// Why a stream could not be opened, or has ended.
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
    #[error("cannot read this activator's token: {0}")]
    Token(#[source] std::io::Error),
    #[error("an answer: {0}")]
    Answer(#[from] WireError),
    #[error("an answer broke off: {0}")]
    Line(#[from] tokio_util::codec::LinesCodecError),
    #[error("the autoscaler ended the stream")]
    Ended,
}

// === impl ReportStreams ===

impl ReportStreams {
    /// No stream yet. `id` is the name of the activator, which shows the token of `shown` on each
    /// stream; metrics go to the registry.
    pub fn new(id: &str, connect: Arc<dyn Connect>, shown: Shown, registry: &mut Registry) -> Self {
        let (merged, dropped) = (Counter::default(), Counter::default());
        let open = Gauge::default();
        let registry = registry.sub_registry_with_prefix("ebb_activator");
        registry.register(
            "reports_merged",
            "Reports of a revision that a newer one replaced before they were sent",
            merged.clone(),
        );
        registry.register(
            "reports_dropped",
            "Immediate reports without room; the next report of the interval covers them",
            dropped.clone(),
        );
        registry.register("report_streams", "Autoscalers with an open report stream", open.clone());
        let answered = Arc::new(Mutex::new(Instant::now()));
        let (id, shared) = (id.into(), Arc::default());
        Self { id, connect, shown, shared, answered, merged, dropped, open }
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
        let mut running = JoinSet::new();
        let mut was_found = true;
        loop {
            let found = resolve(&*self.connect, autoscalers).await;
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
                        self.shared.lock().outlets.remove(address);
                    }
                    stays
                });
                for address in addresses {
                    let keeping = || keep(self.link(address, &activator));
                    tasks.entry(address).or_insert_with(|| running.spawn(keeping()));
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = sleep(RESOLVE_EVERY) => {}
                // A stream that panicked ends this task too: nothing else would start it again.
                Some(Err(error)) = running.join_next() => if error.is_panic() {
                    resume_unwind(error.into_panic());
                }
            }
        }
        self.shared.lock().outlets.clear();
        running.abort_all();
    }

    fn link(&self, address: SocketAddr, activator: &Activator) -> Link {
        Link { address, streams: self.clone(), activator: activator.clone() }
    }

    /// Where the reports for a new stream wait; the first of them is the last report of an
    /// interval.
    fn open(&self, address: SocketAddr) -> Arc<Outlet> {
        let mut shared = self.shared.lock();
        let outlet = Arc::new(Outlet::new(shared.latest.clone()));
        shared.outlets.insert(address, Arc::clone(&outlet));
        outlet
    }
}

impl ReportSink for ReportStreams {
    fn report(&self, report: Report) {
        let report = Arc::new(report);
        let mut shared = self.shared.lock();
        for outlet in shared.outlets.values() {
            let Displaced { merged, dropped } = outlet.put(&report);
            self.merged.inc_by(merged);
            self.dropped.inc_by(dropped);
        }
        if report.scope != Scope::Moment {
            shared.latest = Some(report);
        }
    }

    fn silence(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(*self.answered.lock()))
    }
}

/// The addresses of all hosts; `None` when there is none, or when those of one host are not known
/// now.
async fn resolve(connect: &dyn Connect, hosts: &[String]) -> Option<BTreeSet<SocketAddr>> {
    let mut addresses = BTreeSet::new();
    for host in hosts {
        let found = timeout(CONNECT_TIMEOUT, connect.lookup(host)).await.ok()?.ok()?;
        addresses.extend(found);
    }
    let addresses: BTreeSet<_> = addresses.into_iter().take(AUTOSCALERS_MAX).collect();
    (!addresses.is_empty()).then_some(addresses)
}

/// Keeps a stream to one replica, for ever.
async fn keep(link: Link) {
    let mut pause = RETRY_MIN;
    let address = link.address;
    loop {
        let error = match connect(&link).await {
            Ok(stream) => {
                tracing::info!(%address, "A report stream to an autoscaler is open");
                pause = RETRY_MIN;
                let _open = Open::new(&link.streams.open);
                // The autoscaler may know nothing yet: waiting requests must not wait for the next
                // second.
                link.activator.report_waiting();
                obey(stream, &link).await.err().unwrap_or(Broken::Ended)
            }
            Err(error) => error,
        };
        link.streams.shared.lock().outlets.remove(&address);
        tracing::debug!(%address, %error, ?pause, "A report stream failed and is tried again");
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Opens a stream: the request's body carries the reports of the outlet, the response the answers.
async fn connect(link: &Link) -> Result<Stream, Broken> {
    let address = link.address;
    let token = link.streams.shown.token().await.map_err(Broken::Token)?;
    let (outlet, encoder) = (link.streams.open(address), Encoder::new(&link.streams.id));
    let body = futures::stream::unfold((outlet, encoder), |(outlet, mut encoder)| async move {
        let report = outlet.next().await;
        let lines = Bytes::from(encoder.encode(&report));
        Some((Ok::<_, Infallible>(Frame::data(lines)), (outlet, encoder)))
    });
    let mut request = Request::post(format!("http://{address}{STREAM_PATH}"))
        .header(header::CONTENT_TYPE, LINES_MEDIA_TYPE)
        .body(StreamBody::new(body).boxed_unsync())
        .expect("an address is an authority");
    if let Some(authorization) = token.as_deref().and_then(identity::authorization) {
        request.headers_mut().insert(header::AUTHORIZATION, authorization);
    }
    let handshake = async {
        let stream = link.streams.connect.connect(address).await?;
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok::<_, Broken>((sender, connection))
    };
    let (mut sender, connection) = timeout(CONNECT_TIMEOUT, handshake).await??;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = timeout(CONNECT_TIMEOUT, sender.send_request(request)).await??;
    match response.status() {
        StatusCode::OK => Ok(Stream { answers: response.into_body(), _connection: connection }),
        status => Err(Broken::Refused(status)),
    }
}

/// Takes answers and obeys orders until the stream ends.
async fn obey(stream: Stream, link: &Link) -> Result<(), Broken> {
    let Stream { answers, _connection } = stream;
    let bytes = answers.into_data_stream().map_err(std::io::Error::other);
    let codec = LinesCodec::new_with_max_length(LINE_BYTES_MAX);
    let mut lines = FramedRead::new(StreamReader::new(bytes), codec);
    while let Some(line) = lines.next().await {
        let Answer { ack, order } = Answer::decode(&line?)?;
        if ack.is_some() {
            *link.streams.answered.lock() = Instant::now();
        }
        if let Some(order) = order {
            link.activator.drain(&order);
        }
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
