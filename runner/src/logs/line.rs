//! One line of output in its file: `TIME STREAM TAG TEXT`, tag `F` for a full line and `P` for a
//! part of one that was too long.

use std::collections::VecDeque;

use jiff::Timestamp;

/// A longer line is kept in parts, as container runtimes do.
const LONGEST_PART: usize = 16 * 1024;

/// Kubelet's limits of a termination message taken from the log
/// (`MaxContainerTerminationMessageLogLength` and `...LogLines`).
const TAIL_BYTES: usize = 2048;
const TAIL_LINES: usize = 80;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    rest: Vec<u8>,
}

/// The last lines of a run, within kubelet's limits.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

// === impl Splitter ===

impl Splitter {
    /// Takes `bytes` in; calls `each` with every piece and whether it ends a line.
    pub(super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8], bool)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_full) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            self.rest.extend_from_slice(text);
            while self.rest.len() > LONGEST_PART {
                let later = self.rest.split_off(LONGEST_PART);
                each(&self.rest, false);
                self.rest = later;
            }
            if is_full {
                each(&self.rest, true);
                self.rest.clear();
            }
        }
    }

    /// The end of the stream: a rest without a line end is a line as well.
    pub(super) fn finish(&mut self, each: impl FnOnce(&[u8], bool)) {
        if !self.rest.is_empty() {
            each(&self.rest, true);
            self.rest.clear();
        }
    }
}

// === impl Tail ===

impl Tail {
    pub(super) fn push(&mut self, text: &[u8]) {
        // Only the end of a long line: that is where the reason stands.
        let text = &text[text.len().saturating_sub(TAIL_BYTES)..];
        let line = String::from_utf8_lossy(text).into_owned();
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.lines.len() > TAIL_LINES || (self.bytes > TAIL_BYTES && self.lines.len() > 1) {
            let Some(gone) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= gone.len() + 1;
        }
    }

    pub(super) fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}

/// Appends a line as it stands in the file.
pub(super) fn write(into: &mut Vec<u8>, now: Timestamp, stream: &str, text: &[u8], is_full: bool) {
    let tag = if is_full { 'F' } else { 'P' };
    into.extend_from_slice(format!("{now:.9} {stream} {tag} ").as_bytes());
    into.extend_from_slice(text);
    into.push(b'\n');
}

/// A line of a file, without its line end, in its parts: time, whether it is full, text.
pub(super) fn read(line: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, _stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
    Some((time, tag == b"F", parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(chunks: &[&[u8]]) -> Vec<(usize, bool)> {
        let mut splitter = Splitter::default();
        let mut pieces = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |text, full| pieces.push((text.len(), full)));
        }
        splitter.finish(|text, full| pieces.push((text.len(), full)));
        pieces
    }

    #[test]
    fn lines_are_put_together_from_chunks() {
        assert_eq!(pieces(&[b"ab", b"c\n\nd", b"e"]), [(3, true), (0, true), (2, true)]);
        assert_eq!(pieces(&[b"a\n"]), [(1, true)]);
    }

    #[test]
    fn a_line_without_end_is_kept_in_parts() {
        let long = vec![b'x'; 2 * LONGEST_PART + 1];
        assert_eq!(
            pieces(&[&long, b"\n"]),
            [(LONGEST_PART, false), (LONGEST_PART, false), (1, true)]
        );
    }

    #[test]
    fn the_tail_keeps_the_last_lines_within_its_limits() {
        let mut tail = Tail::default();
        for number in 0..200 {
            tail.push(format!("line {number}").as_bytes());
        }
        let text = tail.text();
        assert_eq!(text.lines().count(), TAIL_LINES);
        assert!(text.ends_with("line 199"));
        tail.push(&vec![b'y'; 10 * TAIL_BYTES]);
        assert_eq!(tail.text(), "y".repeat(TAIL_BYTES));
    }

    #[test]
    fn a_line_reads_back_as_it_was_written() {
        let mut file = Vec::new();
        write(&mut file, Timestamp::UNIX_EPOCH, "stderr", b"a b  c", false);
        let line = file.strip_suffix(b"\n").expect("a whole line");
        let (time, is_full, text) = read(line).expect("well formed");
        assert_eq!(time, b"1970-01-01T00:00:00.000000000Z");
        assert_eq!((is_full, text), (false, b"a b  c".as_slice()));
        assert_eq!(read(b"torn"), None);
    }
}
