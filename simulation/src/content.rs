//! What is in bodies: bytes that are different at each place and for each request, so that it is
//! seen when some are lost, doubled or swapped.

use std::sync::LazyLock;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// Trailer of an answer: the number of its request.
pub(crate) const SUM: &str = "x-sum";
/// Trailer of a request: its number.
pub(crate) const LAST: &str = "x-last";

/// Length after which the bytes begin again: a prime, so that no buffer's size is a multiple of it.
const PERIOD: usize = 65_521;
/// How far the bytes of one request are from those of the next.
const STRIDE: usize = 4_099;
/// Bytes of one chunk.
const CHUNK: usize = 16 << 10;

static BYTES: LazyLock<Bytes> = LazyLock::new(|| {
    let mut bytes = vec![0; PERIOD];
    SmallRng::seed_from_u64(0).fill_bytes(&mut bytes);
    bytes.into()
});

/// The body of a request, in chunks.
pub(crate) fn chunks(number: u64, length: usize) -> impl Iterator<Item = Bytes> {
    let mut at = usize::try_from(number).unwrap_or(0).wrapping_mul(STRIDE) % PERIOD;
    let mut left = length;
    std::iter::from_fn(move || {
        let size = left.min(CHUNK).min(PERIOD - at);
        let chunk = BYTES.slice(at..at + size);
        (left, at) = (left - size, (at + size) % PERIOD);
        (size > 0).then_some(chunk)
    })
}

/// Where bytes are not the body of that request; its end, if they are more or fewer.
pub(crate) fn differs(mut bytes: &[u8], number: u64, length: usize) -> Option<usize> {
    let mut at = 0;
    for chunk in chunks(number, length) {
        let Some(rest) = bytes.strip_prefix(&*chunk) else {
            let same = chunk.iter().zip(bytes).take_while(|(one, other)| one == other);
            return Some(at + same.count());
        };
        (at, bytes) = (at + chunk.len(), rest);
    }
    (!bytes.is_empty()).then_some(at)
}

/// The first part of a model's answer.
pub(crate) fn head(revision: &str, received: usize, trailer: &str) -> String {
    format!("{revision} {received} {trailer}\n")
}

/// A later part.
pub(crate) fn part(number: u64) -> String {
    format!("{number}\n")
}

/// A model's answer.
pub(crate) struct Reply<'a> {
    /// UID of the Revision that answers.
    pub(crate) uid: &'a str,
    /// Bytes that arrived there.
    pub(crate) received: usize,
    /// The trailer that arrived there.
    pub(crate) trailer: &'a str,
    /// The bytes that came back.
    pub(crate) echo: &'a [u8],
}

/// Why bytes are no answer.
pub(crate) enum Flaw {
    /// No model says this.
    Foreign(String),
    /// Only so many parts are there.
    Short(u64),
}

/// Reads an answer of so many parts.
pub(crate) fn read(body: &[u8], parts: u64) -> Result<Reply<'_>, Flaw> {
    let line = |bytes: &'_ [u8]| bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
    let end = line(body).unwrap_or(body.len());
    let (first, mut rest) = body.split_at(end);
    let foreign = || Flaw::Foreign(String::from_utf8_lossy(first).into_owned());
    let first = str::from_utf8(first).map_err(|_| foreign())?;
    let mut words = first.split_ascii_whitespace();
    let (Some(uid), Some(received), Some(trailer)) = (words.next(), words.next(), words.next())
    else {
        return Err(foreign());
    };
    let received = received.parse().map_err(|_| foreign())?;
    for number in 1..parts {
        rest = rest.strip_prefix(part(number).as_bytes()).ok_or(Flaw::Short(number))?;
    }
    Ok(Reply { uid, received, trailer, echo: rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(number: u64, length: usize) -> Vec<u8> {
        chunks(number, length).flatten().collect()
    }

    #[test]
    fn every_change_of_a_body_is_seen() {
        let length = 3 * CHUNK + 7;
        let whole = body(5, length);
        assert_eq!(differs(&whole, 5, length), None);
        assert_eq!(differs(&whole, 6, length), Some(0), "another request's");
        assert_eq!(differs(&whole[..length - 1], 5, length), Some(length - 1), "cut short");
        assert_eq!(differs(&[&*whole, b"x"].concat(), 5, length), Some(length), "too long");
        let swapped = [&whole[CHUNK..2 * CHUNK], &whole[..CHUNK], &whole[2 * CHUNK..]].concat();
        assert_eq!(differs(&swapped, 5, length), Some(0), "chunks swapped");
        let lost = [&whole[..CHUNK], &whole[CHUNK + 1..]].concat();
        assert!(differs(&lost, 5, length).is_some_and(|at| at >= CHUNK), "a byte lost");
    }

    #[test]
    fn a_body_longer_than_the_period_has_its_length() {
        assert_eq!(body(1, 2 * PERIOD + 1).len(), 2 * PERIOD + 1);
    }

    #[test]
    fn an_answer_is_read_as_it_was_made() {
        let text = [head("uid", 3, "7"), part(1), part(2), "abc".to_owned()].concat();
        let answer = read(text.as_bytes(), 3).ok().unwrap();
        assert_eq!((answer.uid, answer.received, answer.trailer), ("uid", 3, "7"));
        assert_eq!(answer.echo, b"abc");
        assert!(matches!(read(text.as_bytes(), 4), Err(Flaw::Short(3))));
        assert!(matches!(read(b"oops", 1), Err(Flaw::Foreign(_))));
    }
}
