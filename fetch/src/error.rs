//! Why a fetch ends without its model.

use std::time::Duration;

/// Why a fetch ended; it displays as one sentence, which holds no secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// What the caller wrote cannot be done: the next try ends the same way.
    #[error("{0}")]
    Arguments(String),
    /// The files could not be had; a later try may find them.
    #[error("{0}")]
    Failed(String),
    /// SIGTERM or SIGINT came.
    #[error("the fetch was told to stop: what it has stays, and the next one goes on from there")]
    Stopped,
}

/// Why one attempt at a file or a list ended.
#[derive(Clone, Debug)]
pub(crate) enum FetchTrouble {
    /// Another attempt may go better: what happened, and how long the server asks to wait.
    Passing(String, Option<Duration>),
    /// The file is another one than the one that was begun.
    Changed,
    /// No attempt will go better.
    Lasting(FetchError),
}

// === impl FetchError ===

impl FetchError {
    /// The status that a process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Stopped => 1,
            Self::Arguments(_) => 2,
        }
    }
}

// === impl FetchTrouble ===

impl FetchTrouble {
    pub(crate) fn lasting(sentence: impl Into<String>) -> Self {
        Self::Lasting(FetchError::Failed(sentence.into()))
    }

    pub(crate) fn passing(what: impl Into<String>) -> Self {
        Self::Passing(what.into(), None)
    }
}

impl From<FetchError> for FetchTrouble {
    fn from(error: FetchError) -> Self {
        Self::Lasting(error)
    }
}
