//! One generation: at its pace, as a whole or as a stream of events.
//!
//! A generation lives in the future or stream that answers its request. When the client leaves, the
//! future or stream is dropped, and with it the place: no generation goes on without a client.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::Event;
use futures::Stream;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::answer::ChatAnswer;
use crate::load::{GenerationPlace, ServerVisit};
use crate::protocol::Order;

/// The fields that all chunks of an answer share.
#[derive(Clone, Debug)]
pub struct Heading {
    /// Unique in this process.
    pub id: String,
    /// Seconds since 1970.
    pub created_s: u64,
    /// The name of the model.
    pub model: String,
}

/// A generation that has its place.
#[derive(Debug)]
pub struct Completion {
    heading: Heading,
    order: Order,
    answer: ChatAnswer,
    tokens_per_second: f64,
    started: Instant,
    visit: ServerVisit,
    _place: GenerationPlace,
}

/// What a stream sends next.
#[derive(Clone, Copy)]
enum Step {
    Role,
    Token(u32),
    Usage,
    Done,
    End,
}

// === impl Completion ===

impl Completion {
    /// Begins to generate now.
    pub fn begin(
        heading: Heading,
        order: Order,
        tokens_per_second: f64,
        visit: ServerVisit,
        place: GenerationPlace,
    ) -> Self {
        let answer = ChatAnswer::to(&order.question);
        let started = Instant::now();
        Self { heading, order, answer, tokens_per_second, started, visit, _place: place }
    }

    /// Generates to the end and answers with all of it. Dropping the future stops it.
    pub async fn whole(mut self) -> Value {
        self.until_token(self.order.tokens - 1).await;
        self.visit.finish();
        let text = self.answer.text(self.order.tokens);
        json!({
            "id": self.heading.id,
            "object": "chat.completion",
            "created": self.heading.created_s,
            "model": self.heading.model,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "logprobs": null,
                "finish_reason": self.finish_reason(),
            }],
            "usage": self.usage(),
        })
    }

    /// The answer token by token, as server-sent events. Dropping the stream stops it.
    pub fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        futures::stream::unfold((self, Step::Role), |(mut completion, step)| async move {
            let (data, next) = completion.event(step).await?;
            Some((Ok(Event::default().data(data)), (completion, next)))
        })
    }

    async fn event(&mut self, step: Step) -> Option<(String, Step)> {
        Some(match step {
            Step::Role => {
                let delta = json!({"role": "assistant", "content": ""});
                (self.chunk(&delta, None), Step::Token(0))
            }
            Step::Token(index) if index < self.order.tokens => {
                self.until_token(index).await;
                let delta = json!({"content": self.answer.token(index)});
                (self.chunk(&delta, None), Step::Token(index + 1))
            }
            Step::Token(_) => {
                let next = if self.order.include_usage { Step::Usage } else { Step::Done };
                (self.chunk(&json!({}), Some(self.finish_reason())), next)
            }
            Step::Usage => {
                let mut chunk = self.bare_chunk(&json!([]));
                chunk["usage"] = self.usage();
                (chunk.to_string(), Step::Done)
            }
            Step::Done => {
                self.visit.finish();
                ("[DONE]".to_owned(), Step::End)
            }
            Step::End => return None,
        })
    }

    fn chunk(&self, delta: &Value, finish_reason: Option<&str>) -> String {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
        let mut chunk = self.bare_chunk(&json!([choice]));
        if self.order.include_usage {
            // Clients tell by the null that usage is still to come.
            chunk["usage"] = Value::Null;
        }
        chunk.to_string()
    }

    fn bare_chunk(&self, choices: &Value) -> Value {
        json!({
            "id": self.heading.id,
            "object": "chat.completion.chunk",
            "created": self.heading.created_s,
            "model": self.heading.model,
            "choices": choices,
        })
    }

    /// Waits until the token at `index` is due. Due times count from the start, so that a slow
    /// reader does not slow the engine down.
    async fn until_token(&self, index: u32) {
        let due = (f64::from(index) + 1.0) / self.tokens_per_second;
        tokio::time::sleep_until(self.started + Duration::from_secs_f64(due)).await;
    }

    fn finish_reason(&self) -> &'static str {
        if self.order.cut { "length" } else { "stop" }
    }

    fn usage(&self) -> Value {
        let Order { prompt_tokens, tokens, .. } = self.order;
        json!({
            "prompt_tokens": prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": prompt_tokens.saturating_add(tokens),
        })
    }
}
