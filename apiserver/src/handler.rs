//! From a request to its response: reads the target and the query, and calls the verb.

mod admit;
mod apply;
mod create;
mod delete;
mod discovery;
mod identity;
mod read;
mod scale;
mod update;
mod watch;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::admission::Admission;
use crate::authentication::Tokens;
use crate::failure::{RequestFailure, Subject};
use crate::journal::is_full;
use crate::measure::OBJECT_BYTES_MAX;
use crate::media;
use crate::pod_logs::PodLogs;
use crate::reply::{self, ReplyBody};
use crate::request::{PathTarget, Query, Route, Subresource, route};
use crate::resources::ResourceType;
use crate::store::{Store, StoreError};
use crate::token_review;
use crate::view::View;

/// Largest request body, as in the real server: an object and nothing more.
const BODY_BYTES_MAX: usize = OBJECT_BYTES_MAX;
/// How often a write is computed anew when another write was faster, unless the client named the
/// version that it builds on.
const WRITE_ATTEMPTS_MAX: usize = 16;

/// Tells the time; a parameter so that tests can.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What all requests share.
pub(crate) struct Shared {
    /// The objects.
    pub(crate) store: Arc<Store>,
    /// The kinds that are served.
    pub(crate) resources: Vec<Arc<ResourceType>>,
    /// The platform's rules.
    pub(crate) admission: Arc<dyn Admission>,
    /// Output of pods.
    pub(crate) logs: Arc<dyn PodLogs>,
    /// The tokens that calls through a socket need.
    pub(crate) tokens: Tokens,
    /// Title of the OpenAPI documents.
    pub(crate) title: String,
    /// Time.
    pub(crate) clock: Clock,
    /// Permits for watches and followed logs.
    pub(crate) streams: Arc<Semaphore>,
}

/// The user of a request, as admission sees it.
pub(crate) type User = Arc<str>;

/// One request for objects.
struct Call<'a> {
    shared: &'a Shared,
    user: &'a str,
    target: PathTarget,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
    now: Timestamp,
    /// Whether the body of a creation has a version, as only stored objects have.
    is_versioned: bool,
    /// Collected while the request is worked on, sent with the response.
    warnings: Vec<String>,
}

/// Answers a request; failures become their Status.
pub(crate) async fn handle<B>(
    shared: Arc<Shared>,
    user: User,
    request: Request<B>,
) -> Response<ReplyBody>
where
    B: http_body::Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match respond(&shared, &user, request).await {
        Ok(response) => response,
        Err(failure) => refusal(&failure),
    }
}

fn refusal(failure: &RequestFailure) -> Response<ReplyBody> {
    if failure.code >= 500 {
        tracing::error!(http.status = failure.code, error = %failure, "Request failed");
    }
    reply::failure(failure)
}

async fn respond<B>(
    shared: &Arc<Shared>,
    user: &str,
    request: Request<B>,
) -> Result<Response<ReplyBody>, RequestFailure>
where
    B: http_body::Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let route = route(head.uri.path(), &shared.resources)?;
    if matches!(route, Route::TokenReviews) && head.method == Method::POST {
        let review = token_review::review(&shared.tokens, &collect(body).await?)?;
        return Ok(reply::json(201, review.to_string()));
    }
    let Route::Objects(target) = route else {
        if head.method != Method::GET && head.method != Method::HEAD {
            return Err(RequestFailure::method_not_allowed());
        }
        return discovery::serve(shared, &route);
    };
    let query = Query::parse(head.uri.query().unwrap_or_default())?;
    let body = collect(body).await?;
    let mut call = Call {
        shared,
        user,
        target,
        query,
        headers: head.headers,
        body,
        now: (shared.clock)(),
        is_versioned: false,
        warnings: Vec::new(),
    };
    // Warnings are for the sender of what is refused, too.
    let mut response = call.serve(&head.method).unwrap_or_else(|failure| refusal(&failure));
    reply::warn(&mut response, &call.warnings);
    Ok(response)
}

async fn collect<B>(body: B) -> Result<Bytes, RequestFailure>
where
    B: http_body::Body + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(RequestFailure::new(
            413,
            "RequestEntityTooLarge",
            format!("limit is {BODY_BYTES_MAX} bytes"),
        )),
        Err(error) => Err(RequestFailure::bad_request(format!("the body cannot be read: {error}"))),
    }
}

// === impl Call ===

impl Call<'_> {
    fn serve(&mut self, method: &Method) -> Result<Response<ReplyBody>, RequestFailure> {
        let named = self.target.name.is_some();
        match (self.target.subresource, method) {
            (Some(Subresource::Scale), _) => self.serve_scale(method),
            (Some(Subresource::Log), &Method::GET) => self.read_log(),
            (None | Some(Subresource::Status), &Method::GET) if named && !self.query.watch => {
                self.read()
            }
            (None, &Method::GET) if self.query.watch => self.watch(),
            (None, &Method::GET) => self.list(),
            (None, &Method::POST) if !named => self.create(),
            (None | Some(Subresource::Status), &Method::PUT) if named => self.replace(),
            (None | Some(Subresource::Status), &Method::PATCH) if named => self.patch(),
            (None, &Method::DELETE) if named => self.delete(),
            (None, &Method::DELETE) => self.delete_collection(),
            _ => Err(RequestFailure::method_not_allowed()),
        }
    }

    /// The object that the path names, for messages.
    fn subject(&self) -> Subject {
        let ResourceType { group, plural, .. } = &*self.target.resource;
        Subject::new(group, plural, self.target.name())
    }

    /// The same by its kind, as validation and preconditions name it.
    fn subject_by_kind(&self) -> Subject {
        let ResourceType { group, kind, .. } = &*self.target.resource;
        Subject::new(group, kind, self.target.name())
    }

    /// How the client wants to see objects.
    fn view(&self) -> Result<View, RequestFailure> {
        Ok(View {
            resource: Arc::clone(&self.target.resource),
            shape: media::shape(&self.headers)?,
            include: self.query.include_object,
            has_columns: true,
        })
    }

    /// Name under which field ownership is recorded: as given, or the client program's name.
    fn manager(&self) -> String {
        let agent = self.headers.get(header::USER_AGENT);
        let agent = agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let program = agent.split('/').next().filter(|name| !name.is_empty());
        let given = self.query.field_manager.as_deref();
        given.or(program).unwrap_or("unknown").to_owned()
    }

    /// The failure that tells a client of the store's refusal.
    fn refused(&self, error: StoreError) -> RequestFailure {
        let namespace = self.target.namespace();
        match error {
            StoreError::Exists => {
                let mut failure = RequestFailure::already_exists(self.subject());
                if self.current().is_some_and(|object| object.deleting()) {
                    failure.message = format!("object is being deleted: {}", failure.message);
                }
                failure
            }
            StoreError::Changed => RequestFailure::modified(self.subject()),
            StoreError::NoNamespace => {
                RequestFailure::not_found(Subject::new("", "namespaces", namespace))
            }
            StoreError::Terminating => RequestFailure::forbidden(
                self.subject(),
                &format!(
                    "unable to create new content in namespace {namespace} because it is being \
                     terminated"
                ),
            ),
            StoreError::Journal(error) if is_full(&error) => {
                let advice = "make room on the disk, then try again";
                RequestFailure::internal(format!("cannot write the journal: {error}; {advice}"))
            }
            StoreError::Journal(error) => {
                RequestFailure::internal(format!("cannot write the journal: {error}"))
            }
        }
    }
}
