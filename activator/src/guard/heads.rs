//! Reads the heads of an HTTP/1 client just far enough to see whether the length of the body is
//! given twice.
//!
//! Pure. hyper repairs such a message in one of the ways that RFC 9112 6.3 allows, and closes the
//! connection; the head that it passes on does not show the repair. Another hop may repair the
//! message the other way, so it is refused here. A head that a client sends before its last request
//! has been answered is not looked at: hyper's way holds for such a head.

const NAME_BYTES_MAX: usize = 17;
const LENGTH: &[u8] = b"content-length";
const CODING: &[u8] = b"transfer-encoding";

/// The position in a head after the last byte.
#[derive(Debug)]
pub(super) struct Heads {
    state: State,
    name: [u8; NAME_BYTES_MAX],
    /// Letters of the field's name so far; more than `name` holds mean that it is neither name
    /// looked for.
    length: usize,
    found: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first line: a client may send empty lines there, which hyper skips.
    Before,
    /// At the start of a line, before its first byte.
    Start,
    /// In a field's name, or in the first line.
    Name,
    /// In the rest of a line.
    Rest,
    /// After the empty line.
    Done,
}

// === impl Heads ===

impl Heads {
    /// At the start of a head.
    pub(super) const fn new() -> Self {
        Self { state: State::Before, name: [0; NAME_BYTES_MAX], length: 0, found: 0 }
    }

    /// Takes what the client has sent.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match (self.state, byte) {
                (State::Done, _) => return,
                (State::Start, b'\n') => self.state = State::Done,
                (State::Before, b'\r' | b'\n') | (State::Start, b'\r') => {}
                (State::Before, _) => self.state = State::Rest,
                (State::Name | State::Rest, b'\n') => (self.state, self.length) = (State::Start, 0),
                (State::Start | State::Name, b':') => {
                    let name = self.name.get(..self.length).unwrap_or_default();
                    let ours = [LENGTH, CODING].iter().any(|n| n.eq_ignore_ascii_case(name));
                    self.found += u32::from(ours);
                    self.state = State::Rest;
                }
                (State::Start | State::Name, letter) => {
                    if let Some(place) = self.name.get_mut(self.length) {
                        *place = *letter;
                    }
                    self.length += 1;
                    self.state = State::Name;
                }
                (State::Rest, _) => {}
            }
        }
    }

    /// Whether more than one field gave the length of the body.
    pub(super) const fn is_ambiguous(&self) -> bool {
        self.found > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length of a body must be given once.
    #[test]
    fn two_fields_for_the_length_are_seen_however_the_head_is_cut() {
        let cases = [
            ("content-length: 5\r\n", false),
            ("Transfer-Encoding: chunked\r\n", false),
            ("content-length: 5\r\ncontent-length: 5\r\n", true),
            ("Content-Length: 5\r\nx: y\r\ntransfer-encoding: chunked\r\n", true),
            ("transfer-encoding: chunked\nCONTENT-LENGTH: 5\n", true),
            ("content-length: 5\r\nx-content-length: 5\r\ncontent-lengthy: 1\r\n", false),
            ("content-length: 5\r\nx: content-length: 5\r\n", false),
        ];
        let empty_lines = ["", "\r\n", "\r\n\r\n", "\n\n\n"];
        for (empty, (fields, ambiguous)) in
            empty_lines.iter().flat_map(|empty| cases.map(|case| (empty, case)))
        {
            let head = format!("POST /content-length:5 HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
            let body = "\r\ncontent-length: 1\r\ncontent-length: 1\r\n";
            let whole = format!("{empty}{head}{body}");
            for step in [1, 2, 3, 7, 1000] {
                let mut heads = Heads::new();
                whole.as_bytes().chunks(step).for_each(|part| heads.feed(part));
                assert_eq!(heads.is_ambiguous(), ambiguous, "{fields:?} in steps of {step}");
            }
        }
    }
}
