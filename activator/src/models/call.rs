//! The paths that models have, and how the requests to each name their model and are told of errors.

use std::sync::LazyLock;

/// A path that models have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// The rest of the path after `/v1/`.
    pub(crate) path: &'static str,
    pub(crate) body: BodyKind,
    pub(crate) form: ErrorForm,
    /// Whether `"stream": true` in the body asks for events. Speech, for one, is streamed as sound.
    pub(crate) has_events: bool,
}

/// How a body names its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyKind {
    /// `"model"` of a JSON object.
    Json,
    /// The field `model` of `multipart/form-data`.
    Multipart,
}

/// The form in which a client wants to be told of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ErrorForm {
    /// A line of text.
    #[default]
    Plain,
    /// `OpenAI`'s.
    OpenAi,
    /// That of Anthropic's Messages API.
    Anthropic,
}

/// All paths that models have.
pub(crate) const CALLS: [Call; 9] = [
    with_events("chat/completions", ErrorForm::OpenAi),
    with_events("completions", ErrorForm::OpenAi),
    with_events("responses", ErrorForm::OpenAi),
    openai("embeddings", BodyKind::Json),
    openai("rerank", BodyKind::Json),
    openai("audio/speech", BodyKind::Json),
    openai("audio/transcriptions", BodyKind::Multipart),
    openai("audio/translations", BodyKind::Multipart),
    with_events("messages", ErrorForm::Anthropic),
];

/// The paths of [`CALLS`], for people.
pub(crate) static PATHS: LazyLock<String> = LazyLock::new(|| {
    let paths: Vec<_> = CALLS.iter().map(|call| format!("/v1/{}", call.path)).collect();
    paths.join(", ")
});

const fn openai(path: &'static str, body: BodyKind) -> Call {
    Call { path, body, form: ErrorForm::OpenAi, has_events: false }
}

const fn with_events(path: &'static str, form: ErrorForm) -> Call {
    Call { path, body: BodyKind::Json, form, has_events: true }
}
