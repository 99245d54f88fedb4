//! Requests to the models host: lists are answered here, all else goes to the model that the body
//! names.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Collected, Limited};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::answer::{ERROR_HEADER, told};
use super::check::Checked;
use super::client::{Caller, Client};
use super::failed::Failed;
use super::held::{WAITING_BYTES, body_bytes};
use super::leftover;
use super::reader;
use crate::account::{Account, Tally};
use crate::body::ProxyBody;
use crate::budget::{Excess, Purpose, Share};
use crate::error::{ModelError, RequestError};
use crate::guard::Busy;
use crate::meters::{Bound, Cut};
use crate::models::call::{Call, ErrorForm};
use crate::models::name::{self, Named};
use crate::models::{Ask, BODY_BYTES_MAX, answer, ask, form_of};
use crate::revision::Revision;
use crate::route::{self, Door};
use crate::upload::{Upload, UploadError, Whole};
use crate::usage::AnswerScan;

/// Bytes that are counted before the first of a body is there; for HTTP/2 its window is, which is more.
const FIRST_BYTES: usize = 16 * 1024;
/// Longest time for a body to come, whatever its pace: the largest needs 1.8 Mbit/s. What is held of it
/// is everybody's.
const READ_WITHIN: Duration = Duration::from_mins(5);
/// A body of more bytes is looked through beside the requests of others: a MiB takes a millisecond
/// or two.
const LARGE_BYTES: usize = 1024 * 1024;
/// Longest text of another activator's error; its own are shorter.
const PEER_ERROR_BYTES_MAX: usize = 4096;

/// A body that was read, and the share that counts its bytes.
struct Read {
    bytes: Bytes,
    share: Share,
}

/// Where a request for a model goes, and what its server must be told instead of what the client
/// has said.
struct Way {
    revision: Arc<Revision>,
    /// The model's name as a Route declares it.
    model: Arc<str>,
    known_as: Option<Arc<str>>,
}

// === impl Client ===

impl Client {
    /// Whether a request with this host, which no Route has, is for the models host.
    pub(super) fn is_for_models(&self, host: &HeaderValue) -> bool {
        let Caller::Client(_, door) = self.caller else {
            return false;
        };
        let host = host.to_str().ok().and_then(|text| route::normalise(text).ok());
        host.is_some_and(|host| self.proxy.directory.is_models_host(&host, door))
    }

    /// Answers a request to the models host.
    pub(super) async fn serve_model(
        self: &Arc<Self>,
        mut checked: Checked,
        busy: Busy,
    ) -> Result<Response<ProxyBody>, Failed> {
        let door = match self.caller {
            Caller::Client(_, door) => door,
            Caller::Peer => return Err(checked.failed(RequestError::HostUnknown)),
        };
        let directory = &self.proxy.directory;
        let form = form_of(checked.request.uri().path());
        let key = match directory.gate.enter(checked.request.headers_mut()) {
            Ok(key) => key,
            Err(error) => return Err(checked.failed(error.into()).in_form(form)),
        };
        let may_use = |model: &str| key.as_ref().is_none_or(|key| key.may_use(model));
        let path = checked.request.uri().path();
        // A table keeps all that it leads to: it must not be held while a request waits.
        let now = Instant::now();
        let found = match ask(checked.request.method(), path) {
            Ok(Ask::Call(call)) => {
                // No API here has a tunnel, in which nothing could be counted.
                checked.upgrade = None;
                let parts =
                    self.proxy.peers.as_ref().map_or(NonZeroU32::MIN, |peers| peers.count());
                return match Account::open(&self.proxy.context, key, parts, now) {
                    Ok(account) => self.call(checked, call, (door, account), busy).await,
                    Err(error) => Err(checked.failed(error.into()).in_form(form)),
                };
            }
            Ok(Ask::List) => Ok(answer::list(directory.table().models(), door, may_use, now)),
            Ok(Ask::Show(id)) => answer::show(directory.table().models(), &id, door, may_use, now),
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => Ok(local(&found, checked).await),
            Err(error) => Err(checked.failed(error.into()).in_form(form)),
        }
    }

    /// Sends a request to the model that its body names.
    async fn call(
        self: &Arc<Self>,
        mut checked: Checked,
        call: Call,
        (door, mut account): (Door, Account),
        busy: Busy,
    ) -> Result<Response<ProxyBody>, Failed> {
        let form = call.form;
        let revision = match self.name(&mut checked, call, door, &mut account).await {
            Ok(revision) => revision,
            Err(error) => {
                account.answered(error.status());
                return Err(checked.failed(error).in_form(form));
            }
        };
        // The revision's timeouts count from here: the client has had its own time.
        let asked = Instant::now();
        match self.pass(checked, revision, asked, busy).await {
            Ok(response) => Ok(tallied(in_form(response, form).await, account, asked)),
            Err(failed) => {
                account.answered(failed.error.status());
                Err(failed.in_form(form))
            }
        }
    }

    /// Reads the body, and finds the revision of the model that it names.
    async fn name(
        &self,
        checked: &mut Checked,
        call: Call,
        door: Door,
        account: &mut Account,
    ) -> Result<Arc<Revision>, RequestError> {
        let headers = checked.request.headers_mut();
        if headers.contains_key(header::CONTENT_ENCODING) {
            return Err(ModelError::BodyEncoded.into());
        }
        let mut media = headers.get_all(header::CONTENT_TYPE).iter();
        let first = media.next().and_then(|media| media.to_str().ok()).map(str::to_owned);
        if media.next().is_some() {
            return Err(RequestError::Malformed("content-type"));
        }
        // The body goes on without trailers.
        headers.remove(header::TRAILER);
        let _head = self.hold_unnamed(checked.head_bytes + WAITING_BYTES)?;
        let read = timeout(READ_WITHIN, self.read(checked)).await;
        let Read { bytes, share } = read.unwrap_or(Err(RequestError::BodySlow))?;
        let (named, mut share) = self.look_through(bytes.clone(), share, call, first).await?;
        let reads_events = named.streams && call.has_events;
        let way = self.way(&named.name, door, account).await?;
        account.is_for(way.model);
        if share.move_to(&way.revision.held).is_err() {
            self.proxy.context.meters.overflow(Bound::RevisionBytes);
            return Err(RequestError::QueueFull);
        }
        let body = match way.known_as {
            Some(known_as) => Whole::new(named.renamed(&bytes, &known_as), share),
            None => Whole::new([bytes], share),
        };
        let body = Upload::Whole(body);
        let headers = checked.request.headers_mut();
        if headers.contains_key(header::CONTENT_LENGTH) {
            let length = body.size_hint().lower();
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        *checked.request.body_mut() = body;
        if reads_events {
            checked.events = reader::of_body(&checked.request, call.form);
        }
        Ok(way.revision)
    }

    /// Reads a body to its end.
    async fn read(&self, checked: &mut Checked) -> Result<Read, RequestError> {
        let mut counted = body_bytes(&checked.request, Purpose::Waiting).max(FIRST_BYTES);
        let body = checked.request.body_mut();
        body.time();
        let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if declared > BODY_BYTES_MAX {
            return Err(ModelError::BodyLarge.into());
        }
        let mut share = self.hold_unnamed(counted)?;
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|error| self.broken_off(&error))?.into_data() else {
                continue;
            };
            let needed = bytes.len() + data.len();
            if needed > BODY_BYTES_MAX {
                return Err(ModelError::BodyLarge.into());
            }
            if needed > counted {
                // Twice as much each time, but no more than is to come where that is known.
                let most = if needed <= declared { declared } else { BODY_BYTES_MAX };
                let next = most.min(2 * needed);
                share.grow(next - counted).map_err(|excess| self.refused(excess))?;
                counted = next;
            }
            if bytes.is_empty() && needed == declared {
                // Nearly all bodies come in one piece.
                return Ok(Read { bytes: data, share });
            }
            bytes.reserve_exact(counted.saturating_sub(bytes.len()));
            bytes.extend_from_slice(&data);
        }
        Ok(Read { bytes: bytes.into(), share })
    }

    /// The model's name in a body. The share comes back; a scan that nobody waits for any more keeps it,
    /// and its turn, to its end.
    async fn look_through(
        &self,
        bytes: Bytes,
        share: Share,
        call: Call,
        media: Option<String>,
    ) -> Result<(Named, Share), RequestError> {
        let is_large = bytes.len() > LARGE_BYTES;
        let look = move || name::find(&bytes, call.body, media.as_deref()).map(|it| (it, share));
        if !is_large {
            return Ok(look()?);
        }
        let turn = Arc::clone(&self.proxy.reading).acquire_owned().await;
        let scan = move || {
            let _turn = turn;
            look()
        };
        match tokio::task::spawn_blocking(scan).await {
            Ok(found) => Ok(found?),
            // It panicked, or the process ends.
            Err(_) => Err(RequestError::Overloaded),
        }
    }

    /// Where a request for a model goes; waits for news of a model that is not known yet, or that no
    /// revision serves so far as is known.
    async fn way(&self, model: &str, door: Door, account: &Account) -> Result<Way, RequestError> {
        let directory = &self.proxy.directory;
        let may_use = |model: &str| account.may_use(model);
        if !may_use(model) {
            return Err(answer::unknown(directory.table().models(), model, door, may_use).into());
        }
        let look = || {
            let table = directory.table();
            let choice = table.models().pick(model, door, rand::random())?;
            let known_as = choice.known_as.cloned();
            let model = Arc::clone(choice.name);
            let revision = Arc::clone(choice.target.ok()?);
            Some(Way { revision, model, known_as })
        };
        let found = match look() {
            None => Box::pin(self.find_by_news(look)).await,
            found => found,
        };
        found.ok_or_else(|| {
            let table = directory.table();
            let error = match table.models().pick(model, door, 0) {
                Some(choice) => ModelError::ModelUnserved {
                    name: model.to_owned(),
                    why: match choice.target {
                        Err(Some(why)) => why.to_string(),
                        Ok(_) | Err(None) => "no revision is ready yet".to_owned(),
                    },
                },
                None => answer::unknown(table.models(), model, door, may_use),
            };
            error.into()
        })
    }

    fn hold_unnamed(&self, bytes: usize) -> Result<Share, RequestError> {
        let share = self.proxy.held.take(bytes, Purpose::Waiting, &self.proxy.unnamed);
        share.map_err(|excess| self.refused(excess))
    }

    /// The error for bytes that are not let in. Those of the models host are nobody's yet.
    fn refused(&self, excess: Excess) -> RequestError {
        let bound = match excess {
            Excess::All => Bound::HeldBytes,
            Excess::Revision => Bound::UnnamedBytes,
        };
        self.proxy.context.meters.overflow(bound);
        RequestError::Overloaded
    }

    fn broken_off(&self, error: &UploadError) -> RequestError {
        match error {
            UploadError::Slow => {
                self.proxy.context.meters.cut(Cut::Upload).inc();
                RequestError::BodySlow
            }
            UploadError::Client(_) | UploadError::TakenBack => RequestError::ClientGone,
        }
    }
}

/// A response of Ebb's own.
async fn local(found: &Value, checked: Checked) -> Response<ProxyBody> {
    let mut response = Response::new(ProxyBody::local(Bytes::from(found.to_string())));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if leftover::must_close(checked.request).await {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The same response, read as it passes if there is something to learn: the pace of a stream, or what a
/// key has to pay for. What is compressed is not read.
fn tallied(
    response: Response<ProxyBody>,
    mut account: Account,
    asked: Instant,
) -> Response<ProxyBody> {
    account.answered(response.status());
    let headers = response.headers();
    let is_plain = !headers.contains_key(header::CONTENT_ENCODING);
    let scan = match reader::media_of(headers) {
        media if media.eq_ignore_ascii_case(reader::EVENTS.as_bytes()) => AnswerScan::events(),
        media if media.eq_ignore_ascii_case(b"application/json") && account.has_key() => {
            AnswerScan::json()
        }
        _ => return response,
    };
    if !is_plain || response.status() != StatusCode::OK {
        return response;
    }
    response.map(|body| body.tallied(Tally::new(account, scan, asked)))
}

/// The same response, but for an error of another activator's, which comes as text.
async fn in_form(response: Response<ProxyBody>, form: ErrorForm) -> Response<ProxyBody> {
    if !response.headers().contains_key(ERROR_HEADER) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let text = Limited::new(body, PEER_ERROR_BYTES_MAX).collect().await;
    let text = text.map(Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let label = head.headers.get(ERROR_HEADER).and_then(|label| label.to_str().ok());
    let label = label.unwrap_or_default().to_owned();
    let status: StatusCode = head.status;
    let (text, media) = told(form, status, &label, text.trim_end());
    head.headers.insert(header::CONTENT_TYPE, media);
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, ProxyBody::local(Bytes::from(text)))
}
