//! Report streams over the network: one from each activator, reports up and drain orders down.
//!
//! A stream is one HTTP request for as long as both ends live: its body carries the lines of
//! reports, its response those of answers (see [`ebb_api::report::wire`]). No input is trusted: the
//! length of a line is bounded here, its contents by the decoder, and loads again in
//! [`crate::load`].
//!
//! An activator has one stream. A newer one ends the older, for the lines that still arrive on the
//! older one are outdated, and would count until a later report takes them back.

mod listener;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use ebb_api::report::wire::{Answer, Decoder, LINE_BYTES_MAX};
use ebb_api::report::{DrainOrder, LINES_MEDIA_TYPE, Report, RevisionKey, STREAM_PATH};
use ebb_daemon::identity::{self, ActivatorPod, Doorkeeper};
use ebb_daemon::lease::Epoch;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{StatusCode, header};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

pub use self::listener::Listener;
use self::listener::Opening;
use crate::activators::ACTIVATORS_MAX;
use crate::intake::Intake;
use crate::shell::DrainControl;

/// A stream that says nothing for so long is over: ten reports in a row are missing.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Lines that are taken from one stream in a second, so that none keeps the others from being
/// heard. A report of an interval is one or a few; each immediate report is one more, and is merged
/// with others on its way.
const LINES_PER_SECOND_MAX: u32 = 1_000;

/// The open streams; cheap to clone. Brings drain orders to all of them.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Orders that name any pod, for activators that connect later.
    standing: BTreeMap<RevisionKey, DrainOrder>,
    /// One for each open stream; dead once the stream has ended.
    outlets: Vec<Weak<Outlet>>,
    /// The number of each activator's newest stream.
    newest: HashMap<String, u64>,
    /// Counts the streams.
    opened: u64,
    /// Whether this replica leads. A standby hears every report and answers none: an activator
    /// takes an answer as a sign that somebody will wake its revisions.
    leads: bool,
}

/// Orders on their way to one activator: the newest of each revision, so that a slow activator
/// makes nobody wait and misses nothing.
#[derive(Debug, Default)]
struct Outlet {
    /// The number of the stream.
    stream: u64,
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    orders: BTreeMap<RevisionKey, DrainOrder>,
    /// Whether the stream is to end, orders or not.
    is_over: bool,
}

#[derive(Clone)]
struct Server {
    intake: Intake,
    streams: Streams,
    doorkeeper: Doorkeeper,
}

type Lines = FramedRead<StreamReader<ByteStream, Bytes>, LinesCodec>;
type ByteStream = futures::stream::MapErr<BodyDataStream, fn(axum::Error) -> std::io::Error>;

/// Both directions of one stream.
struct Exchange {
    lines: Lines,
    decoder: Decoder,
    outlet: Arc<Outlet>,
    server: Server,
    /// The activator that reports.
    activator: ActivatorPod,
    pace: Pace,
    /// Keeps the connection.
    _held: Option<Arc<()>>,
}

/// How many lines of a stream were taken, and since when they are counted.
struct Pace {
    since: Instant,
    lines: u32,
    /// When the last line came: an order that is sent does not end the silence.
    heard_at: Instant,
}

/// Serves the report streams of the activators that `doorkeeper` admits: their reports go to
/// `intake`, and the orders that `streams` is given go out.
pub fn router(intake: Intake, streams: Streams, doorkeeper: Doorkeeper) -> Router {
    Router::new().route(STREAM_PATH, post(accept)).with_state(Server {
        intake,
        streams,
        doorkeeper,
    })
}

async fn accept(State(server): State<Server>, request: Request) -> Response {
    let activator = match server.doorkeeper.admit(identity::bearer(request.headers())).await {
        Ok(activator) => activator,
        Err(refusal) => return (refusal.status(), format!("{refusal}\n")).into_response(),
    };
    let Some(outlet) = server.streams.open() else {
        let text = format!("there are {ACTIVATORS_MAX} report streams already: try again later\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let held = request.extensions().get().and_then(Opening::hold);
    let lines = lines(request.into_body());
    let (decoder, pace) = (Decoder::default(), Pace::new(Instant::now()));
    let exchange = Exchange { lines, decoder, outlet, server, activator, pace, _held: held };
    let orders = futures::stream::unfold(exchange, |mut exchange| async move {
        let answer = exchange.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(answer.encode())), exchange))
    });
    ([(header::CONTENT_TYPE, LINES_MEDIA_TYPE)], Body::from_stream(orders)).into_response()
}

fn lines(body: Body) -> Lines {
    let broken: fn(axum::Error) -> std::io::Error = std::io::Error::other;
    let bytes = body.into_data_stream().map_err(broken);
    FramedRead::new(StreamReader::new(bytes), LinesCodec::new_with_max_length(LINE_BYTES_MAX))
}

// === impl Streams ===

impl Streams {
    /// A place for one more stream, with every standing order; `None` if there are too many.
    fn open(&self) -> Option<Arc<Outlet>> {
        let mut shared = self.shared.lock();
        shared.outlets.retain(|outlet| outlet.strong_count() > 0);
        if shared.outlets.len() >= ACTIVATORS_MAX {
            return None;
        }
        shared.opened += 1;
        let outlet = Arc::new(Outlet { stream: shared.opened, ..Outlet::default() });
        for order in shared.standing.values() {
            outlet.put(order.clone());
        }
        shared.outlets.push(Arc::downgrade(&outlet));
        Some(outlet)
    }

    /// Hands over a report of that stream; false if its activator has a newer stream, or there is
    /// no room: then its next stream has to begin with a full report again. The check and the
    /// handover share one lock, so that reports of the newer stream are handed over after it.
    fn record(&self, stream: u64, report: Report, intake: &Intake) -> bool {
        let mut shared = self.shared.lock();
        let is_known = shared.newest.contains_key(&report.activator);
        if !is_known && shared.newest.len() >= 2 * ACTIVATORS_MAX {
            // At least half of the names are of ended streams; those of open ones come back with
            // their next report.
            shared.newest.clear();
        }
        let newest = shared.newest.entry(report.activator.clone()).or_default();
        if *newest > stream {
            return false;
        }
        *newest = stream;
        intake.record(report)
    }
}

impl DrainControl for Streams {
    fn lead(&self, epoch: Option<Epoch>) {
        let mut shared = self.shared.lock();
        // An activator that connects now must not get an order of another leader, or of this one in
        // an earlier term.
        shared.standing.clear();
        shared.leads = epoch.is_some();
    }

    fn begin_anew(&self, activator: &str) {
        let shared = self.shared.lock();
        // A stream newer than the report that led to this may be ended as well: it begins once
        // more.
        let Some(stream) = shared.newest.get(activator) else {
            return;
        };
        let streams = shared.outlets.iter().filter_map(Weak::upgrade);
        for outlet in streams.filter(|outlet| outlet.stream == *stream) {
            tracing::info!(
                activator.name = activator,
                "A report stream is ended: its full report is no longer known"
            );
            outlet.end();
        }
    }

    fn drain(&self, order: DrainOrder) {
        let mut shared = self.shared.lock();
        for outlet in shared.outlets.iter().filter_map(Weak::upgrade) {
            outlet.put(order.clone());
        }
        if order.pods.is_empty() {
            shared.standing.remove(&order.revision);
        } else {
            shared.standing.insert(order.revision.clone(), order);
        }
    }
}

// === impl Outlet ===

impl Outlet {
    fn put(&self, order: DrainOrder) {
        self.waiting.lock().orders.insert(order.revision.clone(), order);
        self.arrived.notify_one();
    }

    fn end(&self) {
        self.waiting.lock().is_over = true;
        self.arrived.notify_one();
    }

    /// The next order; `None` once the stream is to end. Loses none when it is cancelled.
    async fn next(&self) -> Option<DrainOrder> {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if waiting.is_over {
                    return None;
                }
                if let Some((_, order)) = waiting.orders.pop_first() {
                    return Some(order);
                }
            }
            self.arrived.notified().await;
        }
    }
}

// === impl Exchange ===

impl Exchange {
    /// Takes reports in until there is an answer to send; `None` when the stream is over.
    async fn next(&mut self) -> Option<Answer> {
        loop {
            tokio::select! {
                order = self.outlet.next() => {
                    return order.map(|order| Answer { order: Some(order), ack: None });
                }
                line = next_line(&mut self.pace, &mut self.lines) => match line {
                    Ok(Some(Ok(line))) => if self.record(&line)? {
                        return Some(Answer { ack: Some(self.decoder.lines()), order: None });
                    },
                    Ok(Some(Err(error))) => {
                        tracing::info!(%error, "A report stream broke off");
                        return None;
                    }
                    Ok(None) => return None,
                    Err(_) => {
                        tracing::warn!(after = ?SILENCE_MAX, "A silent report stream was closed");
                        return None;
                    }
                },
            }
        }
    }

    /// Takes in a line; true if it completes a report that is to be answered. `None` ends the
    /// stream: its sender is no activator of this version or speaks for another, its reports are
    /// outdated, or there is no room. The next stream begins with a full report.
    fn record(&mut self, line: &str) -> Option<bool> {
        match self.decoder.decode(line) {
            Ok(Some(report)) if !self.activator.is(&report.activator) => {
                tracing::warn!("A report in the name of another activator ended its stream");
                None
            }
            Ok(Some(report)) => {
                let Server { intake, streams, .. } = &self.server;
                let is_newest = streams.record(self.outlet.stream, report, intake);
                is_newest.then(|| streams.shared.lock().leads)
            }
            Ok(None) => Some(false),
            Err(error) => {
                let activator = self.decoder.activator();
                tracing::warn!(activator.name = activator, %error, "A report stream was ended");
                None
            }
        }
    }
}

// === impl Pace ===

impl Pace {
    fn new(now: Instant) -> Self {
        Self { since: now, lines: 0, heard_at: now }
    }
}

/// The next line; an error after [`SILENCE_MAX`] without one. Loses none when it is cancelled.
/// Beyond [`LINES_PER_SECOND_MAX`] lines stay unread for the rest of the second.
async fn next_line(
    pace: &mut Pace,
    lines: &mut Lines,
) -> Result<Option<Result<String, LinesCodecError>>, tokio::time::error::Elapsed> {
    let second = Duration::from_secs(1);
    if pace.since.elapsed() >= second {
        (pace.since, pace.lines) = (Instant::now(), 0);
    } else if pace.lines >= LINES_PER_SECOND_MAX {
        tokio::time::sleep_until(pace.since + second).await;
        (pace.since, pace.lines) = (Instant::now(), 0);
    }
    let line = tokio::time::timeout_at(pace.heard_at + SILENCE_MAX, lines.next()).await;
    pace.lines += 1;
    pace.heard_at = Instant::now();
    line
}

#[cfg(test)]
mod tests;
