//! The models that a Service declares, by which the models host finds it.
//!
//! `serving.ebb.dev/models: "smol, smollm2:135m, gpt-4o-mini=smol"` on a Service or a Route: names,
//! separated by commas. `ALIAS=NAME` is a name for clients alone; the server is told NAME.

use std::collections::{BTreeMap, BTreeSet};

use crate::annotations::Key;
use crate::field_error::clip;

/// Names of the models that the Service serves.
pub const MODELS: Key = Key(&["serving.ebb.dev/models"]);
/// Most names that one Service declares: each is an entry of every activator's table.
pub const MODELS_MAX: usize = 64;
/// Longest name. Those of Hugging Face have 96 characters at the most and a namespace before them.
pub const NAME_BYTES_MAX: usize = 160;

/// A model as a Service declares it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeclaredModel {
    /// The name that clients say.
    pub name: String,
    /// The name that the server is told, if it is another.
    pub known_as: Option<String>,
}

/// What is wrong with the value of [`MODELS`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelsError {
    /// A name is missing.
    #[error("there is no name between two commas, or beside a \"=\"")]
    Empty,
    /// A name has characters that are not for names.
    #[error("{0:?} is not a name: letters, digits and . _ : / @ + - only")]
    Character(String),
    /// A name is too long.
    #[error("{0:?} is longer than {NAME_BYTES_MAX} characters")]
    Long(String),
    /// A name is declared twice.
    #[error("{0:?} is declared twice")]
    Twice(String),
    /// There are too many names.
    #[error("more than {MODELS_MAX} names")]
    Many,
}

/// The models that these annotations declare; none without [`MODELS`].
pub fn declared(
    annotations: Option<&BTreeMap<String, String>>,
) -> Result<Vec<DeclaredModel>, ModelsError> {
    match MODELS.get(annotations) {
        Some(text) if !text.trim().is_empty() => parse(text),
        Some(_) | None => Ok(Vec::new()),
    }
}

fn parse(text: &str) -> Result<Vec<DeclaredModel>, ModelsError> {
    let mut seen = BTreeSet::new();
    let mut models = Vec::new();
    for entry in text.split(',') {
        if models.len() == MODELS_MAX {
            return Err(ModelsError::Many);
        }
        let (said, known_as) = match entry.split_once('=') {
            Some((said, known_as)) => (name(said)?, Some(name(known_as)?)),
            None => (name(entry)?, None),
        };
        if !seen.insert(said) {
            return Err(ModelsError::Twice(said.to_owned()));
        }
        let known_as = known_as.filter(|known| *known != said).map(str::to_owned);
        models.push(DeclaredModel { name: said.to_owned(), known_as });
    }
    Ok(models)
}

fn name(text: &str) -> Result<&str, ModelsError> {
    let name = text.trim();
    // Each of these stands in JSON and in a URL's path as it is.
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@+-".contains(&byte);
    if name.is_empty() {
        Err(ModelsError::Empty)
    } else if !name.bytes().all(is_fit) {
        Err(ModelsError::Character(clip(name).into_owned()))
    } else if name.len() > NAME_BYTES_MAX {
        Err(ModelsError::Long(clip(name).into_owned()))
    } else {
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<(String, Option<String>)>, String> {
        let annotations = BTreeMap::from([(MODELS.name().to_owned(), text.to_owned())]);
        let models = declared(Some(&annotations)).map_err(|error| error.to_string())?;
        Ok(models.into_iter().map(|model| (model.name, model.known_as)).collect())
    }

    #[test]
    fn names_are_separated_by_commas_and_may_stand_for_another() {
        let plain = |name: &str| (name.to_owned(), None);
        assert_eq!(of(" "), Ok(vec![]));
        assert_eq!(declared(None), Ok(vec![]));
        assert_eq!(of("smol"), Ok(vec![plain("smol")]));
        let alias = ("gpt-4o".to_owned(), Some("smol".to_owned()));
        assert_eq!(
            of(" smol, HuggingFaceTB/SmolLM2-135M:q8 ,gpt-4o = smol, a=a"),
            Ok(vec![plain("smol"), plain("HuggingFaceTB/SmolLM2-135M:q8"), alias, plain("a")])
        );
    }

    #[test]
    fn what_is_no_list_of_names_is_told_in_one_sentence() {
        for (text, problem) in [
            ("a,,b", "there is no name between two commas, or beside a \"=\""),
            ("a,", "there is no name between two commas, or beside a \"=\""),
            ("a=", "there is no name between two commas, or beside a \"=\""),
            ("a b", "\"a b\" is not a name: letters, digits and . _ : / @ + - only"),
            ("a=b=c", "\"b=c\" is not a name: letters, digits and . _ : / @ + - only"),
            ("ä", "\"ä\" is not a name: letters, digits and . _ : / @ + - only"),
            ("a,b,a", "\"a\" is declared twice"),
        ] {
            assert_eq!(of(text), Err(problem.to_owned()), "{text}");
        }
        assert!(of(&"a".repeat(160)).is_ok() && of(&"a".repeat(161)).is_err());
        let many = |count: usize| (0..count).map(|it| it.to_string()).collect::<Vec<_>>().join(",");
        assert!(of(&many(64)).is_ok());
        assert_eq!(of(&many(65)), Err("more than 64 names".to_owned()));
    }
}
