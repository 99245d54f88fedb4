//! Requests to the models host: lists are answered here, all else goes to the model that the body
//! names.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Collected, Limited};
use serde_json::Value;
use tokio::time::Instant;

use super::answer::{ERROR_HEADER, told};
use super::check::Checked;
use super::client::{Caller, Client};
use super::failed::Failed;
use super::leftover;
use crate::body::ProxyBody;
use crate::budget::{Excess, Purpose, Share};
use crate::error::{ModelError, RequestError};
use crate::guard::Busy;
use crate::meters::{Bound, Cut};
use crate::models::call::{Call, ErrorForm};
use crate::models::{Ask, BODY_BYTES_MAX, LISTED_MAX, answer, ask, form_of, name};
use crate::revision::Revision;
use crate::route::{self, Door};
use crate::upload::{Upload, UploadError, Whole};

/// Bytes of a body that are counted for before the first are there.
const FIRST_BYTES: usize = 16 * 1024;
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
        &self,
        checked: Checked,
        busy: Busy,
    ) -> Result<Response<ProxyBody>, Failed> {
        let door = match self.caller {
            Caller::Client(_, door) => door,
            Caller::Peer => return Err(checked.failed(RequestError::HostUnknown)),
        };
        let path = checked.request.uri().path();
        let form = form_of(path);
        let table = self.proxy.directory.table();
        let found = match ask(checked.request.method(), path) {
            Ok(Ask::Call(call)) => return self.call(checked, call, door, busy).await,
            Ok(Ask::List) => Ok(answer::list(table.models(), door, LISTED_MAX)),
            Ok(Ask::Show(id)) => answer::show(table.models(), &id, door),
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => Ok(local(&found, checked).await),
            Err(error) => Err(checked.failed(error.into()).in_form(form)),
        }
    }

    /// Sends a request to the model that its body names.
    async fn call(
        &self,
        mut checked: Checked,
        call: Call,
        door: Door,
        busy: Busy,
    ) -> Result<Response<ProxyBody>, Failed> {
        let form = call.form;
        let way = match self.name(&mut checked, call, door).await {
            Ok(way) => way,
            Err(error) => return Err(checked.failed(error).in_form(form)),
        };
        // The revision's timeouts count from here: the client's time is bounded by its pace.
        let response = self.pass(checked, way, Instant::now(), busy).await;
        let response = response.map_err(|failed| failed.in_form(form))?;
        Ok(in_form(response, form).await)
    }

    /// Reads the body, and finds the revision of the model that it names.
    async fn name(
        &self,
        checked: &mut Checked,
        call: Call,
        door: Door,
    ) -> Result<Arc<Revision>, RequestError> {
        let headers = checked.request.headers();
        if headers.contains_key(header::CONTENT_ENCODING) {
            return Err(ModelError::BodyEncoded.into());
        }
        let media = headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok());
        let media = media.map(str::to_owned);
        let Read { bytes, mut share } = self.read(checked).await?;
        let named = self.look_through(bytes.clone(), call, media).await?;
        let way = self.way(&named.name, door).await?;
        let over = |excess| self.refused(excess);
        let bytes = match way.known_as {
            Some(known_as) => {
                // For a moment there are both bodies.
                let _both = self.hold_unnamed(bytes.len() + known_as.len())?;
                let renamed = named.renamed(&bytes, &known_as);
                share.grow(renamed.len().saturating_sub(bytes.len())).map_err(over)?;
                renamed
            }
            None => bytes,
        };
        share.move_to(&way.revision.held).map_err(over)?;
        let headers = checked.request.headers_mut();
        if headers.contains_key(header::CONTENT_LENGTH) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        }
        *checked.request.body_mut() = Upload::Whole(Whole::new(bytes, share));
        Ok(way.revision)
    }

    /// Reads a body to its end.
    async fn read(&self, checked: &mut Checked) -> Result<Read, RequestError> {
        let body = checked.request.body_mut();
        let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if declared > BODY_BYTES_MAX {
            return Err(ModelError::BodyLarge.into());
        }
        let mut counted = FIRST_BYTES.min(declared.max(1));
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
                let next = if needed <= declared { declared.min(2 * needed) } else { 2 * needed };
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

    /// The model's name in a body.
    async fn look_through(
        &self,
        bytes: Bytes,
        call: Call,
        media: Option<String>,
    ) -> Result<name::Named, RequestError> {
        let is_large = bytes.len() > LARGE_BYTES;
        let look = move || name::find(&bytes, call.body, media.as_deref());
        if !is_large {
            return Ok(look()?);
        }
        let _turn = self.proxy.reading.acquire().await;
        match tokio::task::spawn_blocking(look).await {
            Ok(named) => Ok(named?),
            // It panicked, or the process ends.
            Err(_) => Err(RequestError::Overloaded),
        }
    }

    /// Where a request for a model goes; waits for news of a model that is not known yet.
    async fn way(&self, model: &str, door: Door) -> Result<Way, RequestError> {
        let directory = &self.proxy.directory;
        let look = || {
            let table = directory.table();
            let choice = table.models().pick(model, door, rand::random())?;
            Some(match choice.target {
                Ok(revision) => {
                    Ok(Way { revision: Arc::clone(revision), known_as: choice.known_as.cloned() })
                }
                Err(why) => Err(ModelError::ModelUnserved {
                    name: model.to_owned(),
                    why: why.map_or("no revision is ready yet", |why| why).to_owned(),
                }),
            })
        };
        let found = match look() {
            None => Box::pin(self.find_by_news(look)).await,
            found => found,
        };
        let unknown = || answer::unknown(directory.table().models(), model, door);
        Ok(found.unwrap_or_else(|| Err(unknown()))?)
    }

    fn hold_unnamed(&self, bytes: usize) -> Result<Share, RequestError> {
        let share = self.proxy.held.take(bytes, Purpose::Waiting, &self.proxy.unnamed);
        share.map_err(|excess| self.refused(excess))
    }

    /// The error for bytes that are not let in. Those of the models host are nobody's yet.
    fn refused(&self, excess: Excess) -> RequestError {
        let bound = match excess {
            Excess::All => Bound::HeldBytes,
            Excess::Revision => Bound::RevisionBytes,
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
