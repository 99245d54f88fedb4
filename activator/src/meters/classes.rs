//! Classes of responses, as labels.

use http::StatusCode;

/// 1xx to 5xx, by index.
pub(crate) const ALL: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The place of a status in [`ALL`].
pub(crate) fn place(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, ALL.len()) - 1
}

/// The class of a status.
pub(crate) fn of(status: StatusCode) -> &'static str {
    ALL[place(status)]
}
