//! Reads the frames of an HTTP/2 client just far enough to see whether a head is half sent.
//!
//! Pure. Between the first frame of a head and its last nothing else may come (RFC 9113 6.10), so a
//! client that stops there stops its whole connection.

const HEADER_BYTES: usize = 9;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// The position in the frames after the last byte.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that have come.
    have: usize,
    /// Bytes of the frame that are still to come.
    left: usize,
    /// Whether the frame is the last of a head.
    ends_head: bool,
    in_head: bool,
    /// Heads that were begun.
    heads: u32,
}

// === impl Frames ===

impl Frames {
    /// Takes what the client has sent.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                self.end_frame();
                continue;
            }
            let taken = (HEADER_BYTES - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEADER_BYTES {
                self.begin_frame();
                self.end_frame();
            }
        }
    }

    /// The number of the head that is half sent, if one is.
    pub(super) fn open_head(&self) -> Option<u32> {
        self.in_head.then_some(self.heads)
    }

    fn begin_frame(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.have = 0;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let of_head = matches!(kind, HEADERS | CONTINUATION);
        if kind == HEADERS {
            self.in_head = true;
            self.heads = self.heads.wrapping_add(1);
        }
        self.ends_head = of_head && flags & END_HEADERS != 0;
    }

    fn end_frame(&mut self) {
        if self.left == 0 && std::mem::take(&mut self.ends_head) {
            self.in_head = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        bytes.resize(HEADER_BYTES + usize::from(length), 7);
        bytes
    }

    /// A head is open from the header of its first frame to the last byte of its last frame,
    /// however its bytes are cut.
    #[test]
    fn a_head_is_open_until_its_last_byte() {
        let whole = [
            frame(4, 0, 6),
            frame(HEADERS, 0, 5),
            frame(CONTINUATION, END_HEADERS, 5),
            frame(0, 0, 200),
            frame(HEADERS, END_HEADERS, 3),
        ]
        .concat();
        // SETTINGS, then two frames of a head, then DATA.
        let (first, second) = (15 + 9, 15 + 14 + 14);
        for step in 1..20 {
            let mut frames = Frames::default();
            let mut fed = 0;
            for part in whole.chunks(step) {
                frames.feed(part);
                fed += part.len();
                let open = (first..second).contains(&fed) || (fed >= 261 && fed < whole.len());
                assert_eq!(frames.open_head().is_some(), open, "after {fed} in steps of {step}");
            }
        }
    }
}
