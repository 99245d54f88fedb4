//! Whether browsers get a page while they wait for a model: `serving.ebb.dev/waiting-page: "true"` on a
//! template.

use std::collections::BTreeMap;

use crate::annotations::Key;

/// The annotation of a template.
pub const WAITING_PAGE: Key = Key(&["serving.ebb.dev/waiting-page"]);

/// What is wrong with the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be \"true\" or \"false\"")]
pub struct WaitingPageError;

/// What a Revision's annotations say; without the annotation there is no page.
pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Result<bool, WaitingPageError> {
    match WAITING_PAGE.get(annotations).unwrap_or_default() {
        "true" => Ok(true),
        "false" | "" => Ok(false),
        _ => Err(WaitingPageError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_two_words_can_be_meant() {
        let said = |text: &str| {
            of(Some(&BTreeMap::from([(WAITING_PAGE.name().to_owned(), text.to_owned())])))
        };
        assert_eq!((said("true"), said("false"), of(None)), (Ok(true), Ok(false), Ok(false)));
        assert_eq!((said("yes"), said("True")), (Err(WaitingPageError), Err(WaitingPageError)));
    }
}
