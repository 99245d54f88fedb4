//! Report streams over the network: one from each activator, reports up and drain orders down.
//!
//! A stream is one HTTP request for as long as both ends live: its body is a [`Report`] a line,
//! its response a [`DrainOrder`] a line, both JSON. Nothing is trusted that comes in: lines are
//! bounded here, and their numbers in [`crate::load`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use ebb_api::report::{
    DrainOrder, LINE_BYTES_MAX, LINES_MEDIA_TYPE, Report, RevisionKey, STREAM_PATH,
};
use futures::{StreamExt as _, TryStreamExt as _};
use http::{StatusCode, header};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use crate::activators::ACTIVATORS_MAX;
use crate::intake::Intake;
use crate::shell::DrainControl;

/// A stream that says nothing for so long is over: ten reports in a row are missing.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The open streams; cheap to clone. Brings drain orders to all of them.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Orders that name any pod, for activators that connect later.
    standing: BTreeMap<RevisionKey, DrainOrder>,
    /// One for each open stream; dead once the stream is.
    outlets: Vec<Weak<Outlet>>,
}

/// Orders on their way to one activator: the newest of each revision, so that a slow one makes
/// nobody wait and misses nothing.
#[derive(Debug, Default)]
struct Outlet {
    waiting: Mutex<BTreeMap<RevisionKey, DrainOrder>>,
    arrived: Notify,
}

#[derive(Clone)]
struct Server {
    intake: Intake,
    streams: Streams,
}

type Lines = FramedRead<StreamReader<ByteStream, Bytes>, LinesCodec>;
type ByteStream = futures::stream::MapErr<BodyDataStream, fn(axum::Error) -> std::io::Error>;

/// Both directions of one stream.
struct Exchange {
    lines: Lines,
    outlet: Arc<Outlet>,
    intake: Intake,
}

/// Serves report streams: what comes in goes to `intake`, what `streams` is told goes out.
pub fn router(intake: Intake, streams: Streams) -> Router {
    Router::new().route(STREAM_PATH, post(accept)).with_state(Server { intake, streams })
}

async fn accept(State(server): State<Server>, request: Request) -> Response {
    let Some(outlet) = server.streams.open() else {
        let text = format!("there are {ACTIVATORS_MAX} report streams already: try again later\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let exchange = Exchange { lines: lines(request.into_body()), outlet, intake: server.intake };
    let orders = futures::stream::unfold(exchange, |mut exchange| async move {
        let order = exchange.next().await?;
        Some((Ok::<_, Infallible>(order), exchange))
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
    /// A place for one more stream, with every standing order; none when there are too many.
    fn open(&self) -> Option<Arc<Outlet>> {
        let mut shared = self.shared.lock();
        shared.outlets.retain(|outlet| outlet.strong_count() > 0);
        if shared.outlets.len() >= ACTIVATORS_MAX {
            return None;
        }
        let outlet = Arc::new(Outlet::default());
        for order in shared.standing.values() {
            outlet.put(order.clone());
        }
        shared.outlets.push(Arc::downgrade(&outlet));
        Some(outlet)
    }
}

impl DrainControl for Streams {
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
        self.waiting.lock().insert(order.revision.clone(), order);
        self.arrived.notify_one();
    }

    /// The next order. Loses none when it is cancelled.
    async fn next(&self) -> DrainOrder {
        loop {
            if let Some((_, order)) = self.waiting.lock().pop_first() {
                return order;
            }
            self.arrived.notified().await;
        }
    }
}

// === impl Exchange ===

impl Exchange {
    /// Takes reports in until there is an order to send; nothing when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                order = self.outlet.next() => return encode(&order),
                line = tokio::time::timeout(SILENCE_MAX, self.lines.next()) => match line {
                    Ok(Some(Ok(line))) => self.record(&line)?,
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

    /// Hands a report over; nothing when the line is none, which ends the stream: whatever sends
    /// such lines is no activator of this version, and its next connection starts clean.
    fn record(&self, line: &str) -> Option<()> {
        match serde_json::from_str::<Report>(line) {
            Ok(report) => {
                self.intake.record(report);
                Some(())
            }
            Err(error) => {
                tracing::warn!(%error, "A report that cannot be read ended its stream");
                None
            }
        }
    }
}

fn encode(order: &DrainOrder) -> Option<Bytes> {
    let mut line = serde_json::to_vec(order).ok()?;
    line.push(b'\n');
    Some(line.into())
}

#[cfg(test)]
mod tests;
