//! The records of a journal or snapshot file.
//!
//! A file is [`MAGIC`] and then records. A record is a header of twelve bytes (length of the
//! payload, CRC-32 of the payload, CRC-32 of those eight bytes) and the payload. The header has
//! its own checksum so that a damaged length is not followed to a place where no record begins.

use bytes::Bytes;

/// First bytes of every file; the digit is the version of the format.
pub(super) const MAGIC: &[u8; 8] = b"ebbapi1\n";
/// Bytes of a record's header.
const HEADER_BYTES: usize = 12;

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const END: u8 = 3;
const SYNCED: u8 = 4;

/// One fact of the store's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// The object was created or replaced.
    Put {
        /// Revision of the change in a journal; in a snapshot, of the object's last change.
        revision: u64,
        /// Key of the collection, such as `deployments.apps`.
        resource: String,
        /// The object.
        json: Bytes,
    },
    /// The object was removed.
    Remove {
        /// Revision of the change.
        revision: u64,
        /// Key of the collection.
        resource: String,
        /// Key of the object in its collection.
        key: String,
    },
    /// The end of a snapshot, which is whole only with this record.
    End {
        /// Revision of the store when it was taken.
        revision: u64,
        /// How many objects it holds.
        count: u64,
    },
    /// The disk has confirmed the first bytes of this journal: unreadable ones among them are
    /// damage. Behind them a power cut may leave anything.
    Synced {
        /// How many bytes.
        length: u64,
    },
}

/// The content at an offset of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A whole record, and where the next one begins.
    Record(Record, usize),
    /// Nothing: the file ends here.
    End,
    /// Bytes that are no record: a part of one, nothing, or anything else.
    Unreadable(&'static str),
    /// A whole record, but not of this version.
    Unknown(&'static str),
}

// === impl Record ===

impl Record {
    /// Appends the record, header and all, to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        frame(out, |out| match self {
            Self::Put { revision, resource, json } => {
                encode_head(out, PUT, *revision, resource);
                out.extend_from_slice(json);
            }
            Self::Remove { revision, resource, key } => {
                encode_head(out, REMOVE, *revision, resource);
                out.extend_from_slice(key.as_bytes());
            }
            Self::End { revision, count } => {
                encode_head(out, END, *revision, "");
                out.extend_from_slice(&count.to_le_bytes());
            }
            Self::Synced { length } => encode_head(out, SYNCED, *length, ""),
        });
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        let (kind, rest) = payload.split_first()?;
        let (revision, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (resource, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        let revision = u64::from_le_bytes(*revision);
        let resource = String::from_utf8(resource.to_vec()).ok()?;
        match *kind {
            PUT => Some(Self::Put { revision, resource, json: Bytes::copy_from_slice(rest) }),
            REMOVE => Some(Self::Remove {
                revision,
                resource,
                key: String::from_utf8(rest.to_vec()).ok()?,
            }),
            END => Some(Self::End { revision, count: u64::from_le_bytes(rest.try_into().ok()?) }),
            SYNCED => Some(Self::Synced { length: revision }),
            _ => None,
        }
    }
}

/// Appends the payload that `write` appends, with its header before it.
pub(super) fn frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    write(out);
    let payload = &out[start + HEADER_BYTES..];
    let length = u32::try_from(payload.len()).expect("a record is bounded by a request body");
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..8].copy_from_slice(&crc32(payload).to_le_bytes());
    let check = crc32(&header[..8]);
    header[8..].copy_from_slice(&check.to_le_bytes());
    out[start..start + HEADER_BYTES].copy_from_slice(&header);
}

fn encode_head(out: &mut Vec<u8>, kind: u8, revision: u64, resource: &str) {
    let length = u16::try_from(resource.len()).expect("a resource key is two DNS names");
    out.push(kind);
    out.extend_from_slice(&revision.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(resource.as_bytes());
}

/// Reads the content at `offset` of `file`.
pub(super) fn read(file: &[u8], offset: usize) -> Found {
    let rest = &file[offset..];
    if rest.is_empty() {
        return Found::End;
    }
    let Some((header, body)) = rest.split_first_chunk::<HEADER_BYTES>() else {
        return Found::Unreadable("it ends within a record");
    };
    let word = |at: usize| {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        u32::from_le_bytes(bytes)
    };
    if crc32(&header[..8]) != word(8) {
        return Found::Unreadable("the checksum of a record's header does not match");
    }
    let length = usize::try_from(word(0)).unwrap_or(usize::MAX);
    let Some(payload) = body.get(..length) else {
        return Found::Unreadable("it ends within a record");
    };
    if crc32(payload) != word(4) {
        return Found::Unreadable("the checksum of a record does not match");
    }
    match Record::decode(payload) {
        Some(record) => Found::Record(record, offset + HEADER_BYTES + length),
        None => Found::Unknown("a record is of a kind that this version does not know"),
    }
}

/// How many bytes of `file` the disk has confirmed, according to the records behind `offset`.
///
/// Looks at every byte, because the bytes there may no longer be a row of records. An object cannot
/// pass for a record: its JSON holds no zero bytes.
pub(super) fn synced_behind(file: &[u8], offset: usize) -> usize {
    let claim = |at| match read(file, at) {
        Found::Record(Record::Synced { length }, _) => usize::try_from(length).ok(),
        _ => None,
    };
    let mut example = Vec::new();
    Record::Synced { length: 0 }.encode(&mut example);
    // All of these records have the same length of payload: its bytes rule out most places at once.
    let candidates = (offset..file.len()).filter(|at| file[*at..].starts_with(&example[..4]));
    candidates.filter_map(claim).max().unwrap_or(0)
}

/// CRC-32 as in IEEE 802.3, reflected.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let [low, ..] = (crc ^ u32::from(*byte)).to_le_bytes();
        TABLE[usize::from(low)] ^ (crc >> 8)
    };
    !bytes.iter().fold(u32::MAX, step)
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    const POLYNOMIAL: u32 = 0xEDB8_8320;
    let mut table = [0; 256];
    let mut index = 0;
    let mut seed = 0_u32;
    while index < table.len() {
        let mut crc = seed;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
        seed += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_common_crc32() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let records = [
            Record::Put {
                revision: 7,
                resource: "deployments.apps".into(),
                json: Bytes::from_static(b"{}"),
            },
            Record::Remove { revision: 8, resource: "pods".into(), key: "default/web".into() },
            Record::End { revision: 9, count: 3 },
            Record::Synced { length: 1 << 40 },
        ];
        let mut file = Vec::new();
        for record in &records {
            record.encode(&mut file);
        }
        let mut offset = 0;
        for record in records {
            let Found::Record(found, next) = read(&file, offset) else {
                panic!("no record at {offset}");
            };
            assert_eq!(found, record);
            offset = next;
        }
        assert_eq!(read(&file, offset), Found::End);
    }
}
