//! What a request to the models host has cost, and whose key pays for it.

use std::num::NonZeroU32;
use std::sync::Arc;

use http::StatusCode;
use tokio::time::Instant;

use crate::error::{ModelError, client_closed};
use crate::keys::{ApiKey, Exhausted, Quota};
use crate::meters::StreamMeters;
use crate::revision::RevisionContext;
use crate::usage::{AnswerScan, Usage};

/// The account of one request. It is settled when it is dropped, however the request ends.
pub(crate) struct Account {
    context: Arc<RevisionContext>,
    /// `None` where no key is asked for: then there is nothing to settle.
    key: Option<Arc<ApiKey>>,
    /// Among how many activators the limits of the key are divided.
    parts: NonZeroU32,
    model: Option<Arc<str>>,
    /// At first that of a client that left before it had an answer.
    status: StatusCode,
    usage: Usage,
}

/// Reads the answer to a request as it passes, and settles the request's account at its end.
pub(crate) struct Tally {
    account: Account,
    scan: AnswerScan,
    /// For streams.
    pace: Option<Pace>,
}

/// The pace of a stream.
struct Pace {
    meters: StreamMeters,
    /// When the request's body was there, then when the last piece came.
    last: Instant,
    has_begun: bool,
}

// === impl Account ===

impl Account {
    /// Opens an account, if the limits of the key allow another request now.
    pub(crate) fn open(
        context: &Arc<RevisionContext>,
        key: Option<Arc<ApiKey>>,
        parts: NonZeroU32,
        now: Instant,
    ) -> Result<Self, ModelError> {
        let taken = key.as_ref().map_or(Ok(()), |key| key.take_request(parts, now));
        let (context, status) = (Arc::clone(context), client_closed());
        let mut account =
            Self { context, key, parts, model: None, status, usage: Usage::default() };
        taken.map_err(|exhausted| {
            let error = refusal(exhausted);
            account.answered(error.status());
            error
        })?;
        Ok(account)
    }

    /// Whether the key may use the model that the client calls so.
    pub(crate) fn may_use(&self, model: &str) -> bool {
        self.key.as_ref().is_none_or(|key| key.may_use(model))
    }

    /// The request is for this model, as a Route declares it.
    pub(crate) fn is_for(&mut self, model: Arc<str>) {
        self.model = Some(model);
    }

    /// The client gets this status.
    pub(crate) const fn answered(&mut self, status: StatusCode) {
        self.status = status;
    }

    /// Whether there is a key that pays.
    pub(crate) const fn has_key(&self) -> bool {
        self.key.is_some()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let Some(key) = &self.key else { return };
        let (meters, Usage { prompt, completion }) = (&self.context.meters.tokens, self.usage);
        meters.request(key.name(), self.model.as_ref(), self.status);
        if self.usage.sum() > 0 {
            meters.tokens(key.name(), self.model.as_ref(), (prompt, completion));
            key.take_tokens(self.usage.sum(), self.parts, Instant::now());
        }
    }
}

fn refusal(exhausted: Exhausted) -> ModelError {
    let Exhausted { quota, per_minute, wait } = exhausted;
    // A client that comes back a moment too early would have come for nothing.
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    match quota {
        Quota::Requests => ModelError::RequestsSpent { most: per_minute, seconds },
        Quota::Tokens => ModelError::TokensSpent { most: per_minute, seconds },
    }
}

// === impl Tally ===

impl Tally {
    /// A tally of the answer to a request whose body was there at `asked`.
    pub(crate) fn new(account: Account, scan: AnswerScan, asked: Instant) -> Self {
        let model = account.model.as_ref().filter(|_| matches!(scan, AnswerScan::Events(..)));
        let meters = model.map(|model| account.context.meters.tokens.streams(model));
        let pace = meters.map(|meters| Pace { meters, last: asked, has_begun: false });
        Self { account, scan, pace }
    }

    /// A part of the answer has come.
    pub(crate) fn part(&mut self, bytes: &[u8], now: Instant) {
        let pieces = self.scan.part(bytes);
        if let Some(pace) = &mut self.pace
            && pieces > 0
        {
            pace.came(pieces, now);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.account.usage = self.scan.usage();
    }
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally").field("scan", &self.scan).finish_non_exhaustive()
    }
}

// === impl Pace ===

impl Pace {
    /// So many pieces have come together. Those share the time since the last, so that the mean holds
    /// however the network has joined them.
    fn came(&mut self, pieces: u32, now: Instant) {
        let passed = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        if !self.has_begun {
            self.has_begun = true;
            self.meters.first.observe(passed);
            for _ in 1..pieces {
                self.meters.between.observe(0.0);
            }
            return;
        }
        for _ in 0..pieces {
            self.meters.between.observe(passed / f64::from(pieces));
        }
    }
}
