//! Body of the fuzz target for the bytes of connections: heads and frames, cut anywhere, beside
//! other readers of the same bytes.

use super::frames::Frames;
use super::heads::Heads;

/// Most fields of a head that is compared; hyper takes 100.
const FIELDS_MAX: usize = 100;
/// Most bytes that come at once.
const STEP_MAX: u8 = 16;
const FRAME_HEADER_BYTES: usize = 9;

/// By its first byte an input is what an HTTP/1 or an HTTP/2 client sends; the second says in which
/// steps.
///
/// # Panics
/// If the input shows a fault.
pub fn heads(input: &[u8]) {
    let [kind, step, bytes @ ..] = input else {
        return;
    };
    let step = usize::from(step % STEP_MAX) + 1;
    if kind % 2 == 0 { http1(step, bytes) } else { http2(step, bytes) }
}

/// The length of a body is given twice exactly if hyper's reader finds two such fields.
fn http1(step: usize, bytes: &[u8]) {
    let mut whole = Heads::new();
    whole.feed(bytes);
    let mut parts = Heads::new();
    bytes.chunks(step).for_each(|part| parts.feed(part));
    assert_eq!(format!("{parts:?}"), format!("{whole:?}"), "in steps of {step}");

    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(_)) = request.parse(bytes) else {
        return;
    };
    let lengths = ["content-length", "transfer-encoding"];
    let is_length = |field: &&httparse::Header<'_>| {
        lengths.iter().any(|length| field.name.eq_ignore_ascii_case(length))
    };
    let found = request.headers.iter().filter(is_length).count();
    assert_eq!(whole.is_ambiguous(), found > 1, "{found} fields give the length");
}

/// A head is open from its first frame's header to the last byte of its last frame.
fn http2(step: usize, bytes: &[u8]) {
    let mut frames = Frames::default();
    let mut fed = 0;
    for part in bytes.chunks(step) {
        frames.feed(part);
        fed += part.len();
        assert_eq!(frames.open_head(), open_head(&bytes[..fed]), "after {fed} bytes");
    }
}

/// The same, read from the beginning.
fn open_head(mut bytes: &[u8]) -> Option<u32> {
    let (mut is_open, mut heads) = (false, 0);
    while let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() {
        let [high, middle, low, kind, flags, ..] = *header;
        let length = u32::from_be_bytes([0, high, middle, low]);
        if kind == 1 {
            (is_open, heads) = (true, heads + 1);
        }
        let Some(rest) = rest.get(usize::try_from(length).unwrap_or(usize::MAX)..) else {
            break;
        };
        if (kind == 1 || kind == 9) && flags & 4 != 0 {
            is_open = false;
        }
        bytes = rest;
    }
    is_open.then_some(heads)
}
