//! A scanner of server-sent events whose data are JSON.

use memchr::memchr2;

use super::scan::{JsonScan, Usage};

/// The beginning of a line with data. A space may follow, which JSON passes over.
const DATA: &[u8] = b"data:";

/// The beginning of a comment that marks an event as Ebb's own (`proxy/note.rs`): no piece of an answer.
pub(crate) const OWN: &[u8] = b": ebb-waiting";

/// The state of a scan.
#[derive(Debug, Default)]
pub(crate) struct EventScan {
    json: JsonScan,
    line: Line,
    /// Whether the event is Ebb's own.
    is_own: bool,
    /// Whether the last line ended with a carriage return, so that a line feed ends no other one.
    is_returned: bool,
}

/// The line that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// So many bytes of [`DATA`], and no other.
    Name(usize),
    /// So many bytes of [`OWN`], and no other.
    Own(usize),
    Data,
    /// A comment or another field.
    Other,
}

// === impl EventScan ===

impl EventScan {
    /// What the events so far have said.
    pub(crate) const fn usage(&self) -> Usage {
        self.json.found().usage
    }

    /// Reads a part; returns how many events with a piece of the answer have ended in it.
    pub(crate) fn part(&mut self, bytes: &[u8]) -> u32 {
        let (mut rest, mut pieces) = (bytes, 0);
        while let Some((&first, after)) = rest.split_first() {
            let is_rest_of_end = self.is_returned && first == b'\n';
            self.is_returned = false;
            if is_rest_of_end {
                rest = after;
                continue;
            }
            let end = memchr2(b'\n', b'\r', rest);
            self.in_line(&rest[..end.unwrap_or(rest.len())]);
            let Some(end) = end else { break };
            self.is_returned = rest[end] == b'\r';
            pieces += u32::from(self.end_of_line());
            rest = &rest[end + 1..];
        }
        pieces
    }

    fn in_line(&mut self, mut bytes: &[u8]) {
        if self.line == Line::Name(0) && bytes.first() == OWN.first() {
            self.line = Line::Own(0);
        }
        if let Line::Own(read) = self.line {
            let wanted = &OWN[read..];
            let length = wanted.len().min(bytes.len());
            self.line = match read + length {
                _ if bytes[..length] != wanted[..length] => Line::Other,
                read => Line::Own(read),
            };
            self.is_own |= self.line == Line::Own(OWN.len());
            return;
        }
        if let Line::Name(read) = self.line {
            let wanted = &DATA[read..];
            let length = wanted.len().min(bytes.len());
            let (name, after) = bytes.split_at(length);
            bytes = after;
            self.line = match read + length {
                _ if *name != wanted[..length] => Line::Other,
                read if read == DATA.len() => Line::Data,
                read => Line::Name(read),
            };
        }
        if self.line == Line::Data {
            self.json.part(bytes);
        }
    }

    /// Whether an event with a piece of the answer has ended.
    fn end_of_line(&mut self) -> bool {
        match std::mem::take(&mut self.line) {
            // An empty line.
            Line::Name(0) => {
                let has_piece = self.json.restart().has_piece;
                !std::mem::take(&mut self.is_own) && has_piece
            }
            Line::Data => {
                // Data may have several lines.
                self.json.part(b"\n");
                false
            }
            Line::Name(_) | Line::Own(_) | Line::Other => false,
        }
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::Name(0)
    }
}
