//! The models host: one address for all models, whose API is OpenAI's.
//!
//! Pure. A request's path says what it is ([`ask`]), its body names the model ([`name`]); the
//! table of Routes says where that model is ([`crate::route::ModelTable`]). The body goes on as it
//! came, unless the server knows the model by another name. [`answer`] has what Ebb says itself.

use std::borrow::Cow;

use http::Method;

use self::call::{CALLS, Call, ErrorForm};
use crate::error::ModelError;

pub(crate) mod answer;
pub(crate) mod call;
pub(crate) mod name;

/// First label of the models host.
pub(crate) const HOST: &str = "models";
/// Most bytes of a body. It is held whole until the model's name is known and a pod takes it, for
/// the name may come last. `OpenAI` takes 50 MB of images in a request and 25 MB of sound.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Before `/v1`, as `KServe`'s servers have it.
const ANOTHER_BASE: &str = "/openai";

/// What a request to the models host asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ask<'a> {
    /// All models.
    List,
    /// One of them.
    Show(Cow<'a, str>),
    /// Something of a model that its body names.
    Call(Call),
}

/// What a request asks for.
pub(crate) fn ask<'a>(method: &Method, path: &'a str) -> Result<Ask<'a>, ModelError> {
    let based = path.strip_prefix(ANOTHER_BASE).unwrap_or(path);
    let rest = based.strip_prefix("/v1/").ok_or(ModelError::PathUnknown)?;
    let reads = matches!(*method, Method::GET | Method::HEAD);
    if let Some(call) = CALLS.iter().find(|call| call.path == rest) {
        return match *method {
            Method::POST => Ok(Ask::Call(*call)),
            _ => Err(ModelError::MethodRefused("POST")),
        };
    }
    let Some(model) = rest.strip_prefix("models") else {
        return Err(ModelError::PathUnknown);
    };
    match model.strip_prefix('/') {
        _ if !reads => Err(ModelError::MethodRefused("GET")),
        None if model.is_empty() => Ok(Ask::List),
        None => Err(ModelError::PathUnknown),
        Some("") => Ok(Ask::List),
        // SDKs write the slash of a name as %2F.
        Some(id) => Ok(Ask::Show(percent_encoding::percent_decode_str(id).decode_utf8_lossy())),
    }
}

/// The form for a request that was not understood so far: by its path, else `OpenAI`'s.
pub(crate) fn form_of(path: &str) -> ErrorForm {
    if path.ends_with("/v1/messages") { ErrorForm::Anthropic } else { ErrorForm::OpenAi }
}

#[cfg(test)]
mod tests {
    use super::call::BodyKind;
    use super::*;

    #[test]
    fn paths_are_those_of_openai_under_two_bases() {
        for base in ["", "/openai"] {
            for (path, body, form, has_events) in [
                ("chat/completions", BodyKind::Json, ErrorForm::OpenAi, true),
                ("embeddings", BodyKind::Json, ErrorForm::OpenAi, false),
                ("audio/speech", BodyKind::Json, ErrorForm::OpenAi, false),
                ("audio/transcriptions", BodyKind::Multipart, ErrorForm::OpenAi, false),
                ("messages", BodyKind::Json, ErrorForm::Anthropic, true),
            ] {
                let whole = format!("{base}/v1/{path}");
                let posted = ask(&Method::POST, &whole);
                assert_eq!(posted, Ok(Ask::Call(Call { path, body, form, has_events })));
                assert_eq!(ask(&Method::GET, &whole), Err(ModelError::MethodRefused("POST")));
            }
            let list = format!("{base}/v1/models");
            assert_eq!(ask(&Method::GET, &list), Ok(Ask::List));
        }
        assert_eq!(ask(&Method::HEAD, "/v1/models/"), Ok(Ask::List));
        assert_eq!(ask(&Method::POST, "/v1/models"), Err(ModelError::MethodRefused("GET")));
        for (path, id) in [("a", "a"), ("org/a:8b", "org/a:8b"), ("org%2Fa%3A8b", "org/a:8b")] {
            let path = format!("/v1/models/{path}");
            assert_eq!(ask(&Method::GET, &path), Ok(Ask::Show(id.into())));
        }
        for path in [
            "",
            "/",
            "/v1",
            "/v1/",
            "/v1/modelsx",
            "/v1/chat/completions/",
            "/v1//models",
            "/openai/openai/v1/models",
            "/v2/models",
            "/openaiv1/models",
            "/v1/chat",
        ] {
            assert_eq!(ask(&Method::GET, path), Err(ModelError::PathUnknown), "{path}");
        }
    }
}
