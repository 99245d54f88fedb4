//! Clients of the models, who come through whichever activator is ready.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ebb_activator::Connect as _;
use futures::{StreamExt as _, stream};
use http::{Method, Request, Version, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::chance::Chance;
use crate::judge::{Asked, Judge, Outcome};
use crate::network::{Dialer, Name};
use crate::parts::OUTER_PORT;
use crate::pods::model;

/// Ways to an activator that a client tries until it gives up.
const ATTEMPTS_MAX: usize = 20;
/// Pause before a client tries again to find an activator.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How long a client waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How much longer than a request's timeout and its work its client waits for the end.
const PATIENCE: Duration = Duration::from_secs(90);

/// A request to be made.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) number: u64,
    pub(crate) namespace: &'static str,
    pub(crate) service: String,
    /// The revision's timeout.
    pub(crate) timeout: Duration,
    pub(crate) work: Duration,
    pub(crate) parts: u64,
    pub(crate) upload: usize,
    /// When the client leaves, if it does.
    pub(crate) leaves_after: Option<Duration>,
    pub(crate) is_h2: bool,
    /// Whether it comes to the outer door.
    pub(crate) is_outside: bool,
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

impl Clients {
    /// Makes a request and tells the judge how it ends. Returns whether it was answered 200.
    pub(crate) async fn run(self, errand: Errand) -> bool {
        let asked = Asked {
            number: errand.number,
            service: format!("{}/{}", errand.namespace, errand.service),
            timeout: errand.timeout,
            upload: errand.upload,
            parts: errand.parts,
            is_outside: errand.is_outside,
        };
        self.judge.asks(asked);
        let longest = errand.timeout + errand.work + PATIENCE;
        let outcome = match errand.leaves_after {
            Some(after) => timeout(after, self.exchange(&errand)).await.unwrap_or(Outcome::Left),
            None => timeout(longest, self.exchange(&errand)).await.unwrap_or(Outcome::Nothing),
        };
        self.judge.ends(errand.number, &outcome);
        matches!(outcome, Outcome::Answer { status, .. } if status == 200)
    }

    async fn exchange(&self, errand: &Errand) -> Outcome {
        for _ in 0..ATTEMPTS_MAX {
            let Some((activator, address)) = self.endpoints.pick(&self.chance) else {
                sleep(RETRY_AFTER).await;
                continue;
            };
            let port = if errand.is_outside { OUTER_PORT } else { address.port() };
            let address = SocketAddr::new(address.ip(), port);
            match timeout(CONNECT_TIMEOUT, self.dialer.connect(address)).await {
                Ok(Ok(io)) => {
                    self.judge.connects(errand.number, &activator);
                    return talk(TokioIo::new(io), errand).await;
                }
                _ => sleep(RETRY_AFTER).await,
            }
        }
        Outcome::NoActivator
    }
}

async fn talk<I>(io: I, errand: &Errand) -> Outcome
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    match exchange(io, errand).await {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Broke(error.to_string()),
    }
}

async fn exchange<I>(io: I, errand: &Errand) -> Result<Outcome, hyper::Error>
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let request = request(errand);
    let response = if errand.is_h2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Outcome::Answer { status: parts.status, headers: parts.headers, body })
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

fn request(errand: &Errand) -> Request<Body> {
    let host = format!("{}.{}.svc.cluster.local", errand.service, errand.namespace);
    let method = if errand.upload > 0 { Method::POST } else { Method::GET };
    let request = Request::builder()
        .method(method)
        .header(model::NUMBER, errand.number)
        .header(model::WORK_MS, u64::try_from(errand.work.as_millis()).unwrap_or(u64::MAX))
        .header(model::PARTS, errand.parts);
    let request = if errand.is_h2 {
        request.uri(format!("http://{host}/")).version(Version::HTTP_2)
    } else {
        request.uri("/").header(header::HOST, host)
    };
    let chunks = chunks(errand.upload).map(|chunk| Ok(Frame::data(chunk)));
    request.body(StreamBody::new(stream::iter(chunks).boxed()).boxed_unsync()).expect("a literal")
}

fn chunks(mut left: usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        (left > 0).then(|| {
            let length = left.min(16 << 10);
            left -= length;
            Bytes::from(vec![b'x'; length])
        })
    })
}
