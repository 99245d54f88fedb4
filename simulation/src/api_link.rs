//! The way of one process to the API server: every answer and every watch event takes a while, and
//! the weather of the link decides what else happens to them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use ebb_apiserver::{ApiServer, ApiService};
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode, response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use tower::util::BoxCloneService;
use tower::{BoxError, Service};

use crate::chance::Chance;
use crate::network::{Name, Network};
use crate::story::Story;

mod answers;
mod sky;

use answers::{expired, refusal, whole};
use sky::STEP_MS_MAX;
pub(crate) use sky::{Sky, Weather};

/// Watches what processes write. Called when the API server has answered, before the process knows.
pub(crate) trait Witness: Send + Sync {
    /// The term of the lease for which `by` works, as it is now.
    fn term(&self, by: &Name) -> Option<i64>;

    /// `by` sent this, and the server answered so.
    fn wrote(&self, by: &Name, call: &Call, status: StatusCode, answer: &Bytes);
}

/// A request to the API server.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// The term of its sender's lease when it was sent.
    pub(crate) term: Option<i64>,
    /// How long its sender stood still with it.
    pub(crate) held: Duration,
    /// Whether the network held it for long, so that its sender may lead no more when it arrives.
    pub(crate) is_late: bool,
    /// Whether it is carried out only if what it follows from is still so.
    pub(crate) is_conditional: bool,
}

/// The way of one run of a process to the API server. Clones are the same way.
#[derive(Clone)]
pub(crate) struct ApiLink {
    name: Name,
    inner: ApiService,
    network: Network,
    chance: Chance,
    story: Story,
    witness: Arc<dyn Witness>,
    sky: watch::Receiver<Sky>,
    /// Whether the process has ended.
    is_dead: Arc<Mutex<bool>>,
    fuses: Arc<Mutex<Vec<Fuse>>>,
    /// Writes, but for leases.
    writes: Arc<AtomicU32>,
}

/// What happens to a process at one of its writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AtWrite {
    /// It ends before the write is carried out.
    EndBefore,
    /// It ends when the write is carried out and nobody hears the answer.
    EndAfter,
    /// It stands still, and the write is on its way: it arrives when the process goes on.
    Stand,
}

/// Waits for one of the writes of a process.
struct Fuse {
    /// Writes until then.
    left: u32,
    /// What the paths of those writes contain.
    of: &'static str,
    when: AtWrite,
    burnt: oneshot::Sender<String>,
}

/// From the word that a process has come to its write until it stands still.
const STANDS_AFTER: Duration = Duration::from_millis(1);

/// Events of one watch that are on their way at a time. They arrive in order.
const EVENTS_UNDER_WAY: usize = 64;

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// What the links of all processes share.
#[derive(Clone)]
pub(crate) struct ApiLinks {
    pub(crate) api: ApiServer,
    pub(crate) network: Network,
    pub(crate) chance: Chance,
    pub(crate) story: Story,
    pub(crate) witness: Arc<dyn Witness>,
}

impl ApiLinks {
    /// The way of a new run of `name`.
    pub(crate) fn link(&self, name: &Name, sky: watch::Receiver<Sky>) -> ApiLink {
        ApiLink {
            name: name.clone(),
            inner: self.api.service(&format!("system:serviceaccount:ebb-system:{name}")),
            network: self.network.clone(),
            chance: self.chance.clone(),
            story: self.story.clone(),
            witness: Arc::clone(&self.witness),
            sky,
            is_dead: Arc::default(),
            fuses: Arc::default(),
            writes: Arc::default(),
        }
    }
}

impl ApiLink {
    /// A client with the limits that daemons have.
    pub(crate) fn client(&self) -> kube::Client {
        ebb_daemon::client::over(BoxCloneService::new(self.clone()))
    }

    /// From now on nothing of this run of the process reaches the server any more, but for what is
    /// on its way.
    pub(crate) fn close(&self) {
        *self.is_dead.lock() = true;
    }

    /// Lets something happen to the process at its write of that number from now on, of those whose
    /// paths contain `of`. Says which write it was, and does not happen any more once nobody waits for
    /// that. Whoever hears it ends the process, or stops it, at once.
    pub(crate) fn arm(
        &self,
        number: u32,
        of: &'static str,
        when: AtWrite,
    ) -> oneshot::Receiver<String> {
        let (burnt, told) = oneshot::channel();
        self.fuses.lock().push(Fuse { left: number, of, when, burnt });
        told
    }

    /// How many writes came this way, but for leases.
    pub(crate) fn writes(&self) -> u32 {
        self.writes.load(Ordering::Relaxed)
    }

    /// What happens to the process at this write, if anything, and whom to tell.
    fn burns(&self, call: &Call) -> Option<(AtWrite, oneshot::Sender<String>)> {
        // A lease is renewed again and again.
        if call.path.contains("/leases") {
            return None;
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        let mut fuses = self.fuses.lock();
        fuses.retain(|fuse| !fuse.burnt.is_closed());
        for fuse in fuses.iter_mut().filter(|fuse| call.path.contains(fuse.of)) {
            fuse.left = fuse.left.saturating_sub(1);
        }
        let index = fuses.iter().position(|fuse| fuse.left == 0)?;
        let Fuse { when, burnt, .. } = fuses.swap_remove(index);
        Some((when, burnt))
    }

    async fn call(self, request: Request<Body>) -> Result<Answer, BoxError> {
        let mut sky = self.sky.clone();
        let query = request.uri().query().unwrap_or_default();
        let is_watch = query.contains("watch=");
        let asks_version = query.contains("resourceVersion=");
        let is_read = request.method() == Method::GET;
        let term = if is_read { None } else { self.witness.term(&self.name) };
        let sent = ebb_clockwork::elapsed();
        sleep(self.chance.between(0, STEP_MS_MAX)).await;
        let is_late = self.runs().await;
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let body = body.collect().await?.to_bytes();
        let plural = path.rsplit('/').next().unwrap_or_default().to_owned();
        let call = Call {
            method: parts.method.clone(),
            path,
            term,
            held: if is_late {
                ebb_clockwork::elapsed().saturating_sub(sent)
            } else {
                Duration::ZERO
            },
            is_late,
            is_conditional: is_late && is_conditional(&body),
        };
        let now = sky.borrow().clone();
        for weather in now.0 {
            match weather {
                Weather::Refuses => {
                    return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
                }
                Weather::Silent => {
                    sky.wait_for(|now| !now.is_silent()).await?;
                }
                Weather::Slow(most) => sleep(self.chance.between(0, most)).await,
                Weather::Forbids if call.method == Method::POST && plural == "deployments" => {
                    return Ok(refusal(StatusCode::FORBIDDEN, "Forbidden"));
                }
                Weather::Gone if is_watch && asks_version => return Ok(expired()),
                Weather::Fails(one_in) if !is_watch && self.chance.one_in(one_in) => {
                    return self.fail(Request::from_parts(parts, body.into()), &call).await;
                }
                _ => {}
            }
        }
        let (parts, body) =
            self.carry_out(Request::from_parts(parts, body.into()), &call).await?.into_parts();
        if is_watch {
            return Ok(Response::from_parts(parts, self.slowed(body, plural)));
        }
        sleep(self.chance.between(0, STEP_MS_MAX)).await;
        sky.wait_for(|now| !now.is_silent()).await?;
        self.runs().await;
        Ok(Response::from_parts(parts, body))
    }

    /// Hands the request to the server and the answer to the witness.
    async fn carry_out(&self, request: Request<Body>, call: &Call) -> Result<Answer, BoxError> {
        if *self.is_dead.lock() {
            std::future::pending::<()>().await;
        }
        if call.method == Method::GET {
            let (parts, body) = self.inner.clone().call(request).await?.into_parts();
            return Ok(Response::from_parts(parts, body.map_err(BoxError::from).boxed_unsync()));
        }
        let end = self.burns(call);
        let mut ends_after = None;
        match end {
            Some((AtWrite::EndBefore, burnt)) => {
                self.close();
                drop(burnt.send(format!("{} {}", call.method, call.path)));
                return std::future::pending().await;
            }
            Some((AtWrite::Stand, burnt)) => {
                drop(burnt.send(format!("{} {}", call.method, call.path)));
                return self.carry_out_late(request, call).await;
            }
            Some((AtWrite::EndAfter, burnt)) => ends_after = Some(burnt),
            None => {}
        }
        let (parts, body) = self.write(request, call).await?;
        if let Some(burnt) = ends_after {
            self.close();
            drop(burnt.send(format!("{} {}", call.method, call.path)));
            return std::future::pending().await;
        }
        Ok(Response::from_parts(parts, whole(body)))
    }

    /// Hands a write to the server when the process goes on, whether the process still wants it or
    /// not: the write was on its way when the process began to stand still.
    async fn carry_out_late(
        &self,
        request: Request<Body>,
        call: &Call,
    ) -> Result<Answer, BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let is_conditional = is_conditional(&body);
        let request = Request::from_parts(parts, body.into());
        let (link, mut call) =
            (self.clone(), Call { is_late: true, is_conditional, ..call.clone() });
        let begin = ebb_clockwork::elapsed();
        let late = tokio::spawn(async move {
            sleep(STANDS_AFTER).await;
            link.is_resumed().await;
            call.held = ebb_clockwork::elapsed().saturating_sub(begin);
            link.write(request, &call).await
        });
        let (parts, body) = late.await??;
        Ok(Response::from_parts(parts, whole(body)))
    }

    /// Lets the server carry a request out, and reads a whole answer.
    async fn write(
        &self,
        request: Request<Body>,
        call: &Call,
    ) -> Result<(response::Parts, Bytes), BoxError> {
        let (parts, body) = self.inner.clone().call(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        self.story.trace(&format!("{} {} {}: {}", self.name, call.method, call.path, parts.status));
        self.witness.wrote(&self.name, call, parts.status, &body);
        Ok((parts, body))
    }

    /// A failure as a server in trouble gives it: before the request was carried out, or after.
    async fn fail(&self, request: Request<Body>, call: &Call) -> Result<Answer, BoxError> {
        if self.chance.one_in(2) {
            drop(self.carry_out(request, call).await?);
            return Ok(refusal(StatusCode::GATEWAY_TIMEOUT, "Timeout"));
        }
        let is_write = call.method == Method::PUT || call.method == Method::PATCH;
        Ok(match self.chance.below(if is_write { 4 } else { 3 }) {
            0 => refusal(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            1 => refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            2 => refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            _ => refusal(StatusCode::CONFLICT, "Conflict"),
        })
    }

    /// The events of a watch, each of which takes a while.
    fn slowed<B>(&self, body: B, plural: String) -> UnsyncBoxBody<Bytes, BoxError>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let link = self.clone();
        let mut sky = self.sky.clone();
        let refused = async move { sky.wait_for(Sky::ends_watches).await.is_ok() };
        let chunks = body.into_data_stream().take_until(Box::pin(refused)).map(move |chunk| {
            let (link, plural) = (link.clone(), plural.clone());
            let chunk = chunk.map_err(Into::<BoxError>::into);
            async move {
                let late = link.sky.borrow().lateness();
                sleep(link.chance.between(0, late)).await;
                let mut sky = link.sky.clone();
                sky.wait_for(|now| !now.stalls(&plural)).await?;
                link.runs().await;
                chunk.map(Frame::data)
            }
        });
        StreamBody::new(chunks.buffered(EVENTS_UNDER_WAY)).boxed_unsync()
    }

    /// Waits while the process is stopped; for ever once it has ended. Returns whether it was stopped.
    async fn runs(&self) -> bool {
        let begin = ebb_clockwork::elapsed();
        self.is_resumed().await;
        if *self.is_dead.lock() {
            std::future::pending::<()>().await;
        }
        ebb_clockwork::elapsed() > begin
    }

    /// Waits while the process is stopped.
    async fn is_resumed(&self) {
        std::future::poll_fn(|context| {
            if self.network.is_paused(&self.name, context.waker()) {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }
}

impl Service<Request<Body>> for ApiLink {
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().call(request))
    }
}

/// Whether a patch or an object names the version, or the scale, that it follows from.
fn is_conditional(body: &[u8]) -> bool {
    match serde_json::from_slice::<Value>(body).unwrap_or_default() {
        Value::Array(steps) => {
            let is_test = |step: &Value| {
                step["op"] == "test"
                    && step["path"].as_str().is_some_and(|at| !at.ends_with("/uid"))
            };
            steps.iter().any(is_test)
        }
        object => object["metadata"]["resourceVersion"].is_string(),
    }
}
