//! The request of the OpenAI chat API, as far as a simulator heeds it. Fields that change only the
//! sampling (`temperature` and the like) are ignored, as there is nothing to sample.

use serde::Deserialize;

use crate::answer::count;
use crate::refusal::Refusal;
use crate::settings::ChatSettings;

/// Largest body: a context of a million tokens is about this long.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// Longest answer, in tokens: the output limit of large models.
pub const TOKENS_MAX: u32 = 131_072;

/// `POST /v1/chat/completions`.
#[derive(Clone, Debug, Deserialize)]
pub struct ChatRequest {
    model: String,
    messages: Vec<Message>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<i64>,
    #[serde(default)]
    max_completion_tokens: Option<i64>,
    #[serde(default)]
    n: Option<i64>,
    /// An extension of vLLM: generate `max_tokens` tokens, however long the answer would be.
    #[serde(default)]
    ignore_eos: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Message {
    role: Role,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

/// A text, or parts of which only texts are read.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Clone, Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

/// What to generate: a request that passed the checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The text of the last message of the user.
    pub question: String,
    /// Tokens of all messages together.
    pub prompt_tokens: u32,
    /// Tokens to generate.
    pub tokens: u32,
    /// Whether `max_tokens` cuts the answer.
    pub cut: bool,
    /// Whether to answer as a stream.
    pub stream: bool,
    /// Whether a stream ends with its usage.
    pub include_usage: bool,
}

// === impl Content ===

impl Content {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => {
                parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

// === impl ChatRequest ===

impl ChatRequest {
    /// Checks the request against what the server offers.
    pub fn order(self, settings: &ChatSettings) -> Result<Order, Refusal> {
        if self.model != settings.model {
            return Err(Refusal::UnknownModel { model: self.model, known: settings.model.clone() });
        }
        if self.messages.is_empty() {
            return Err(Refusal::NoMessages);
        }
        if let Some(sent) = self.n.filter(|n| *n != 1) {
            return Err(Refusal::Choices { sent });
        }
        let stream = self.stream.unwrap_or_default();
        if self.stream_options.is_some() && !stream {
            return Err(Refusal::StreamOptions);
        }
        let limit = self.tokens_max()?;
        let whole = match limit {
            Some(limit) if self.ignore_eos.unwrap_or_default() => limit,
            _ => settings.answer_tokens,
        };
        let texts = || self.messages.iter().filter_map(|message| message.content.as_ref());
        let last = self.messages.iter().rev().find(|message| message.role == Role::User);
        Ok(Order {
            question: last
                .and_then(|last| last.content.as_ref())
                .map_or_else(String::new, Content::text),
            prompt_tokens: texts().map(|content| count(&content.text())).sum(),
            tokens: limit.map_or(whole, |limit| limit.min(whole)),
            cut: limit.is_some_and(|limit| limit < whole || self.ignore_eos.unwrap_or_default()),
            stream,
            include_usage: self.stream_options.is_some_and(|options| options.include_usage),
        })
    }

    /// The newer field wins where both are sent.
    fn tokens_max(&self) -> Result<Option<u32>, Refusal> {
        let (field, sent) = match (self.max_completion_tokens, self.max_tokens) {
            (Some(sent), _) => ("max_completion_tokens", sent),
            (None, Some(sent)) => ("max_tokens", sent),
            (None, None) => return Ok(None),
        };
        match u32::try_from(sent) {
            Ok(tokens @ 1..=TOKENS_MAX) => Ok(Some(tokens)),
            _ => Err(Refusal::Tokens { field, sent }),
        }
    }
}
