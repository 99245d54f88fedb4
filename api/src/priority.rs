//! Which models go before others when there is no room for all: `serving.ebb.dev/priority: "10"` on a
//! template.

use std::collections::BTreeMap;

use crate::annotations::Key;

/// The annotation of a template.
pub const PRIORITY: Key = Key(&["serving.ebb.dev/priority"]);

/// What is wrong with the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be a whole number from -1000 to 1000")]
pub struct PriorityError;

/// What a Revision's annotations say: the higher goes first, 0 without the annotation.
pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Result<i16, PriorityError> {
    match PRIORITY.get(annotations).unwrap_or_default() {
        "" => Ok(0),
        text => {
            let number = text.parse().ok().filter(|number| (-1000..=1000).contains(number));
            number.ok_or(PriorityError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_a_number_within_bounds() {
        let said =
            |text: &str| of(Some(&BTreeMap::from([(PRIORITY.name().to_owned(), text.to_owned())])));
        assert_eq!(
            (said("10"), said("-1000"), said(""), of(None)),
            (Ok(10), Ok(-1000), Ok(0), Ok(0))
        );
        for text in ["1001", "-1001", "1.5", "high", "99999999999"] {
            assert_eq!(said(text), Err(PriorityError), "{text}");
        }
    }
}
