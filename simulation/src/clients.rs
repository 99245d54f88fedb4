//! Clients of the models, who come through whichever activator is ready.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ebb_activator::Connect as _;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, Method, Request, Response, Version, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::chance::Chance;
use crate::content;
use crate::judge::{Asked, Judge, Outcome};
use crate::network::{Dialer, Name};
use crate::parts::OUTER_PORT;
use crate::plan::{Call, Framing};
use crate::pods::model;

/// Ways to an activator that a client tries until it gives up.
const ATTEMPTS_MAX: usize = 20;
/// Pause before a client tries again to find an activator.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How long a client waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How much longer than its work a client waits for a request's end: the longest timeout is 60 s.
const PATIENCE: Duration = Duration::from_secs(100);
/// Longest pause between two requests on one connection.
const PAUSE_MS_MAX: u64 = 1_500;

/// A request to be made.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) number: u64,
    pub(crate) namespace: &'static str,
    pub(crate) service: String,
    pub(crate) is_h2: bool,
    pub(crate) call: Call,
}

/// The activators that clients may go to, as a load balancer knows them.
#[derive(Clone, Default)]
pub(crate) struct Endpoints(Arc<Mutex<Vec<(Name, SocketAddr)>>>);

impl Endpoints {
    pub(crate) fn add(&self, name: &Name, address: SocketAddr) {
        let mut all = self.0.lock();
        if !all.iter().any(|(known, _)| known == name) {
            all.push((name.clone(), address));
        }
    }

    pub(crate) fn remove(&self, name: &Name) {
        self.0.lock().retain(|(known, _)| known != name);
    }

    fn pick(&self, chance: &Chance) -> Option<(Name, SocketAddr)> {
        let all = self.0.lock();
        (!all.is_empty()).then(|| all[chance.below(all.len())].clone())
    }
}

/// Makes requests. Clones are the same client.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) endpoints: Endpoints,
    pub(crate) chance: Chance,
    pub(crate) judge: Judge,
}

/// A connection to an activator.
struct Line {
    activator: Name,
    sender: Sender,
}

enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

impl Clients {
    /// Makes requests one after the other, on one connection as long as it holds, and tells the
    /// judge how they end. Returns whether all were answered 200.
    pub(crate) async fn run(self, errands: Vec<Errand>) -> bool {
        let (mut line, mut are_served) = (None, true);
        for (index, errand) in errands.into_iter().enumerate() {
            if index > 0 {
                sleep(self.chance.between(0, PAUSE_MS_MAX)).await;
            }
            are_served &= self.one(&errand, &mut line).await;
        }
        are_served
    }

    async fn one(&self, errand: &Errand, line: &mut Option<Line>) -> bool {
        let Errand { number, call, .. } = errand;
        self.judge.asks(Asked {
            number: *number,
            service: format!("{}/{}", errand.namespace, errand.service),
            step: call.step(),
            upload: call.upload,
            parts: call.parts,
            has_trailers: call.framing == Framing::Trailers,
            is_outside: call.is_outside,
        });
        let longest = call.leaves_after.unwrap_or(call.work + PATIENCE);
        let outcome = match (timeout(longest, self.exchange(errand, line)).await, call.leaves_after)
        {
            (Ok(outcome), _) => outcome,
            (Err(_), Some(_)) => Outcome::Left,
            (Err(_), None) => Outcome::Nothing,
        };
        self.judge.ends(*number, &outcome);
        matches!(outcome, Outcome::Answer { status, .. } if status == 200)
    }

    /// Makes one request, on the connection if there is one. A connection that was used before may
    /// be closed by an activator that leaves, in the very moment in which the request is sent; then
    /// it is made again on another, as by any client.
    async fn exchange(&self, errand: &Errand, line: &mut Option<Line>) -> Outcome {
        if let Some(old) = line.take() {
            let activator = old.activator.clone();
            self.judge.connects(errand.number, &activator);
            match old.talk(errand).await {
                Ok((outcome, same)) => {
                    *line = Some(same);
                    return outcome;
                }
                Err(Break { is_unsent: true, .. }) => {}
                Err(_) if self.judge.is_turned_away(errand.number, &activator) => {}
                Err(broken) => return Outcome::Broke(broken.error.to_string()),
            }
        }
        for _ in 0..ATTEMPTS_MAX {
            let Some((activator, address)) = self.endpoints.pick(&self.chance) else {
                sleep(RETRY_AFTER).await;
                continue;
            };
            let port = if errand.call.is_outside { OUTER_PORT } else { address.port() };
            let address = SocketAddr::new(address.ip(), port);
            let Ok(Ok(io)) = timeout(CONNECT_TIMEOUT, self.dialer.connect(address)).await else {
                sleep(RETRY_AFTER).await;
                continue;
            };
            self.judge.connects(errand.number, &activator);
            let talk = async {
                let sender = Sender::new(TokioIo::new(io), errand.is_h2).await?;
                Line { activator, sender }.talk(errand).await
            };
            return match talk.await {
                Ok((outcome, new)) => {
                    *line = Some(new);
                    outcome
                }
                Err(broken) => Outcome::Broke(broken.error.to_string()),
            };
        }
        Outcome::NoActivator
    }
}

/// A connection that broke, with a request.
struct Break {
    error: hyper::Error,
    /// Whether nothing of the request was sent.
    is_unsent: bool,
}

impl From<hyper::Error> for Break {
    fn from(error: hyper::Error) -> Self {
        Self { error, is_unsent: false }
    }
}

impl<T> From<TrySendError<T>> for Break {
    fn from(mut error: TrySendError<T>) -> Self {
        let is_unsent = error.take_message().is_some();
        Self { error: error.into_error(), is_unsent }
    }
}

impl Sender {
    async fn new<I>(io: I, is_h2: bool) -> Result<Self, Break>
    where
        I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        Ok(if is_h2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Self::H2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            Self::H1(sender)
        })
    }

    async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Break> {
        let unsent = |error| Break { error, is_unsent: true };
        match self {
            Self::H1(sender) => {
                sender.ready().await.map_err(unsent)?;
                Ok(sender.try_send_request(request).await?)
            }
            Self::H2(sender) => {
                sender.ready().await.map_err(unsent)?;
                Ok(sender.try_send_request(request).await?)
            }
        }
    }
}

impl Line {
    /// Makes a request; returns the connection for the next one.
    async fn talk(mut self, errand: &Errand) -> Result<(Outcome, Self), Break> {
        let (parts, body) = self.sender.send(request(errand)).await?.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().map(Box::new);
        let body = body.to_bytes();
        let (status, headers) = (parts.status, parts.headers);
        Ok((Outcome::Answer { status, headers, body, trailers }, self))
    }
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

fn request(errand: &Errand) -> Request<Body> {
    let Errand { number, call, .. } = errand;
    let host = format!("{}.{}.svc.cluster.local", errand.service, errand.namespace);
    let (is_sized, has_trailers) =
        (call.framing == Framing::Sized, call.framing == Framing::Trailers);
    let method = if call.upload > 0 || has_trailers { Method::POST } else { Method::GET };
    let mut request = Request::builder()
        .method(method)
        .header(model::NUMBER, *number)
        .header(model::WORK_MS, u64::try_from(call.work.as_millis()).unwrap_or(u64::MAX))
        .header(model::PARTS, call.parts);
    if is_sized {
        request = request.header(model::SIZED, "1");
    }
    request = if errand.is_h2 {
        request.uri(format!("http://{host}/")).version(Version::HTTP_2)
    } else {
        request.uri("/").header(header::HOST, host)
    };
    let mut frames: Vec<_> = content::chunks(*number, call.upload).map(Frame::data).collect();
    if is_sized && call.upload > 0 {
        request = request.header(header::CONTENT_LENGTH, call.upload);
    } else if has_trailers {
        request = request.header(header::TE, "trailers").header(header::TRAILER, content::LAST);
        let last = (HeaderName::from_static(content::LAST), (*number).into());
        frames.push(Frame::trailers(HeaderMap::from_iter([last])));
    }
    let frames = stream::iter(frames).map(Ok);
    request.body(StreamBody::new(frames.boxed()).boxed_unsync()).expect("they are literals")
}
