//! A repository of Hugging Face, or of a mirror with its API.
//!
//! Of the few requests that it takes this crate makes its own, over its own client. The crate
//! hf-hub 1.0.0 was read for it, and cannot be used:
//! - it begins a file anew after an interruption: its `download_file` writes `*.incomplete` from
//!   the start, without a `Range`;
//! - it compares no checksum, neither the SHA-256 of a large file nor git's name of a small one;
//! - it takes our client, but makes a second one of its own (`no_redirect_client`), and hands files
//!   with an `X-Xet-Hash` to hf-xet, whose client connects where it likes: past the check of
//!   addresses, and past the roots that the image lacks.

use async_trait::async_trait;
use parking_lot::Mutex;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Request, Response, StatusCode, Url, header};
use serde::Deserialize;

use super::get::Answer;
use super::{Opened, Origin, get};
use crate::digest::Expected;
use crate::error::{FetchError, FetchTrouble};
use crate::names;
use crate::net;
use crate::net::CheckedClient;
use crate::plan;
use crate::plan::{FetchPlan, Listed};

const ENDPOINT: &str = "https://huggingface.co";
/// The variables of Hugging Face's own tools.
const ENDPOINT_VARIABLE: &str = "HF_ENDPOINT";
const TOKEN: &str = "HF_TOKEN";
/// Bytes of all pages of a list: an entry takes some 300.
const LIST_BYTES_MAX: usize = 64 << 20;
/// Pages of a list: Hugging Face puts 1,000 entries on one.
const PAGES_MAX: usize = 200;
/// Bytes of what is told of a revision, which lists all files once more.
const REVISION_BYTES_MAX: usize = 32 << 20;
/// What tells a gated repository from one that is not there.
const ERROR_CODE: &str = "x-error-code";

/// A repository at a revision.
pub(crate) struct Hub {
    client: CheckedClient,
    endpoint: Url,
    token: Option<HeaderValue>,
    repository: String,
    revision: String,
    wanted: Option<String>,
    /// What the source says that the one file hashes to.
    sha256: Option<String>,
    /// What the revision was when the plan was made.
    commit: Mutex<String>,
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

// === impl Hub ===

impl Hub {
    pub(crate) fn new(
        client: CheckedClient,
        repository: &str,
        revision: &str,
        wanted: Option<&str>,
        sha256: Option<String>,
    ) -> Result<Self, FetchError> {
        let named = super::secret(ENDPOINT_VARIABLE);
        let endpoint = Url::parse(named.as_deref().unwrap_or(ENDPOINT))
            .ok()
            .filter(|url| matches!(url.scheme(), "https" | "http") && !has_user(url))
            .ok_or_else(|| {
                FetchError::Arguments(format!(
                    "{ENDPOINT_VARIABLE} is no URL of a host: write it as {ENDPOINT}"
                ))
            })?;
        let token = super::secret(TOKEN).map(|token| super::bearer(TOKEN, &token)).transpose()?;
        Ok(Self {
            client,
            endpoint,
            token,
            repository: repository.to_owned(),
            revision: revision.to_owned(),
            wanted: wanted.map(str::to_owned),
            sha256,
            commit: Mutex::default(),
        })
    }

    /// A URL of the endpoint; each part is one between two `/`, whatever it has in it.
    fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        url.path_segments_mut().expect("http URLs have paths").pop_if_empty().extend(parts);
        url
    }

    fn request(&self, url: Url) -> Request {
        let mut request = Request::new(Method::GET, url);
        if let Some(token) = &self.token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        request
    }

    async fn ask(&self, url: Url, max: usize) -> Result<(HeaderMap, Vec<u8>), FetchTrouble> {
        let answer = self.client.send(self.request(url)).await?;
        if answer.status() == StatusCode::OK {
            let headers = answer.headers().clone();
            return Ok((headers, net::read_small(answer, max).await?));
        }
        Err(self.refusal(&answer))
    }

    async fn commit(&self) -> Result<String, FetchTrouble> {
        let is_commit = |text: &str| {
            matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        // A commit names itself.
        if is_commit(&self.revision) {
            return Ok(self.revision.clone());
        }
        let parts = ["api", "models"].into_iter().chain(self.repository.split('/'));
        let url = self.url(parts.chain(["revision", self.revision.as_str()]));
        let (_, body) = self.ask(url, REVISION_BYTES_MAX).await?;
        let revision: Option<Revision> = serde_json::from_slice(&body).ok();
        let commit = revision.map(|revision| revision.sha).filter(|sha| is_commit(sha));
        commit.ok_or_else(|| self.nonsense("a revision without a commit"))
    }

    /// The files of a commit: all, or those of the folder that the wanted one is in.
    async fn list(&self, commit: &str) -> Result<Vec<Listed>, FetchTrouble> {
        let wanted = self.wanted.as_deref().unwrap_or("");
        let (folder, _) = wanted.rsplit_once('/').unwrap_or(("", wanted));
        let parts = ["api", "models"].into_iter().chain(self.repository.split('/'));
        let parts = parts.chain(["tree", commit]);
        let mut url = self.url(parts.chain(folder.split('/').filter(|part| !part.is_empty())));
        if wanted.is_empty() || wanted.ends_with('/') {
            url.query_pairs_mut().append_pair("recursive", "true");
        }
        let (mut list, mut left) = (Vec::new(), LIST_BYTES_MAX);
        for _ in 0..PAGES_MAX {
            let (headers, body) = self.ask(url.clone(), left).await?;
            left -= body.len();
            let page: Vec<Entry> =
                serde_json::from_slice(&body).map_err(|_| self.nonsense("a list that is none"))?;
            for entry in page {
                list.extend(self.listed(entry)?);
            }
            match next(&headers) {
                None => return Ok(list),
                Some(next) => url = self.page(&url, &next)?,
            }
        }
        Err(FetchTrouble::lasting(format!(
            "{} has more than {PAGES_MAX} pages of files: name a folder or a file of it",
            self.repository
        )))
    }

    /// The next page: of the link only what it asks is taken. A mirror may hand on links to the host
    /// that it mirrors, and the token must not go where a link points.
    fn page(&self, this: &Url, next: &str) -> Result<Url, FetchTrouble> {
        let query = this.join(next).ok().and_then(|next| next.query().map(str::to_owned));
        let mut page = this.clone();
        page.set_query(query.as_deref());
        if query.is_none() || page == *this {
            return Err(self.nonsense("a next page that is none"));
        }
        Ok(page)
    }

    fn listed(&self, entry: Entry) -> Result<Option<Listed>, FetchTrouble> {
        let is_hex = |text: &str, digits: usize| {
            text.len() == digits
                && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if entry.kind != "file" {
            return Ok(None);
        }
        let (size, expected) = match entry.lfs {
            Some(lfs) if is_hex(&lfs.oid, 64) => (lfs.size, Expected::Sha256(lfs.oid)),
            None if is_hex(&entry.oid, 40) => (entry.size, Expected::GitBlob(entry.oid)),
            _ => return Err(self.nonsense("a file without a checksum")),
        };
        let validator = expected.text();
        Ok(Some(Listed { path: entry.path, size: Some(size), expected, validator }))
    }

    fn nonsense(&self, what: &str) -> FetchTrouble {
        let host = net::host(&self.endpoint);
        FetchTrouble::lasting(format!(
            "{host} sent {what} for {}: check {ENDPOINT_VARIABLE}",
            self.repository
        ))
    }

    fn refusal(&self, answer: &Response) -> FetchTrouble {
        let (host, status) = (net::host(&self.endpoint), answer.status());
        if !net::lasting_status(status) {
            let after = net::retry_after(answer.headers(), jiff::Timestamp::now());
            return FetchTrouble::Passing(format!("{host} answered with status {status}"), after);
        }
        let repository = &self.repository;
        let code = answer.headers().get(ERROR_CODE).and_then(|code| code.to_str().ok());
        let is_gated = code == Some("GatedRepo");
        FetchTrouble::lasting(match status.as_u16() {
            401 | 403 if is_gated => format!(
                "{repository} is gated (status {status} of {host}): accept its licence on its page, \
                 and give a token of that account as {TOKEN}, in a Secret on Kubernetes"
            ),
            401 | 403 if self.token.is_some() => format!(
                "{host} does not let this token read {repository} (status {status}): check the name, \
                 accept its licence on its page, or set {TOKEN} to a token that may read it"
            ),
            401 | 403 => format!(
                "{host} shows {repository} to nobody without a token (status {status}): check the \
                 name, or give a token as {TOKEN}, in a Secret on Kubernetes"
            ),
            404 => format!(
                "{host} has no such files of {repository} at the revision {} (status {status}): check \
                 the name, the revision and the path",
                self.revision
            ),
            _ => format!("{host} answered for {repository} with status {status}: check the name"),
        })
    }
}

#[async_trait]
impl Origin for Hub {
    async fn plan(&self) -> Result<FetchPlan, FetchTrouble> {
        let commit = self.commit().await?;
        let list = self.list(&commit).await?;
        self.commit.lock().clone_from(&commit);
        let mut items = plan::choose(list, self.wanted.as_deref())
            .map_err(|why| FetchTrouble::lasting(format!("{} {why}", self.repository)))?;
        if let Some(sha256) = &self.sha256 {
            for item in &mut items {
                item.listed.expected = item.listed.expected.clone().and_sha256(sha256).ok_or_else(
                    || {
                        let name = names::shown(&item.name);
                        FetchTrouble::lasting(format!(
                            "the file {name} of {} has another checksum than #sha256= says: compare \
                             the source",
                            self.repository
                        ))
                    },
                )?;
            }
        }
        Ok(FetchPlan { version: Some(commit), items })
    }

    async fn open(
        &self,
        listed: &Listed,
        from: u64,
        _validator: Option<&str>,
    ) -> Result<Opened, FetchTrouble> {
        // Of one commit a file has one state, which its checksum shows: no condition is needed.
        let commit = self.commit.lock().clone();
        let parts = self.repository.split('/').chain(["resolve", commit.as_str()]);
        let url = self.url(parts.chain(listed.path.split('/')));
        match get::get(&self.client, self.request(url), from, None).await? {
            Answer::Opened(opened) => Ok(opened),
            Answer::Refused(answer) => Err(self.refusal(&answer)),
        }
    }
}

/// Whether a URL names who asks: its tokens come apart from it.
fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// The target of `Link: <...>; rel="next"`.
fn next(headers: &HeaderMap) -> Option<String> {
    headers.get_all(header::LINK).iter().find_map(|link| {
        let links = link.to_str().ok()?.split(',');
        let next = links.map(str::trim).find(|link| link.contains("rel=\"next\""))?;
        let (target, _) = next.strip_prefix('<')?.split_once('>')?;
        Some(target.to_owned())
    })
}
