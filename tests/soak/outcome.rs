//! What became of a request, in the words under which it is counted.

use std::error::Error;
use std::io;

/// The outcome of one request.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Under which it is counted; [`SERVED`] for the right answer.
    pub(crate) label: String,
    /// What else is known of a failure.
    pub(crate) detail: String,
    /// Whether the request had to wait for a pod or a place in one.
    pub(crate) waited: bool,
}

/// What the label begins with of a request that failed because its activator was killed.
pub(crate) const CUT_OFF: &str = "cut off by the kill: ";
/// The label of a request that its service answered with 200.
pub(crate) const SERVED: &str = "200";

impl Outcome {
    /// The right answer.
    pub(crate) fn served(waited: bool) -> Self {
        Self { label: SERVED.to_owned(), detail: String::new(), waited }
    }

    /// A failure.
    pub(crate) fn failed(label: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { label: label.into(), detail: detail.into(), waited: false }
    }

    /// The same outcome of a request that a killed activator may have had. What its death cannot
    /// explain, such as another's answer, stays what it is.
    pub(crate) fn cut_off(self) -> Self {
        let by_death =
            ["502", "connect:", "no answer:", "answer cut off:", "new connection closed"];
        let is_explained = by_death.iter().any(|begin| self.label.starts_with(begin));
        if !is_explained {
            return self;
        }
        Self { label: format!("{CUT_OFF}{}", self.label), ..self }
    }

    /// A connection that broke at this point of a request.
    pub(crate) fn broken(at: &str, error: &(dyn Error + 'static)) -> Self {
        Self::failed(format!("{at}: {}", kind(error)), chain(error))
    }
}

/// What kind of error it is, without what differs from one to the next.
fn kind(error: &(dyn Error + 'static)) -> String {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind().to_string();
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && error.is_incomplete_message()
        {
            return "closed".to_owned();
        }
        next = error.source();
    }
    error.to_string()
}

/// An error with all that caused it.
fn chain(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_explains_no_wrong_answer() {
        let cut_off = |label: &str| Outcome::failed(label, "").cut_off().label;
        assert_eq!(cut_off("502 upstream"), "cut off by the kill: 502 upstream");
        assert_eq!(cut_off("404 host-unknown"), "404 host-unknown");
        assert_eq!(Outcome::served(true).cut_off().label, SERVED);
    }

    #[test]
    fn errors_are_counted_by_their_kind() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let outcome = Outcome::broken("no answer", &reset);
        assert_eq!(outcome.label, "no answer: connection reset");
        let wrapped = io::Error::other(reset);
        assert_eq!(Outcome::broken("connect", &wrapped).label, "connect: other error");
    }
}
