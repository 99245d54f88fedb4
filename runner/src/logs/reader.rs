//! Reads a run's log files for a client.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ebb_apiserver::pod_logs::LogOptions;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};

use super::writer::aside;
use super::{Progress, Run, line};

/// Bytes of one answer to a follower; more comes in the next.
const MOST_AT_ONCE: u64 = 1024 * 1024;

/// A request for a run's output, and how far it was answered.
#[derive(Debug)]
pub(super) struct Reader {
    run: Run,
    options: LogOptions,
    /// How much of the file was sent; `None` before the first answer.
    sent: Option<Progress>,
    /// A part of a line at the end of the bytes that were read.
    rest: Vec<u8>,
    /// Whether the next text continues a line whose beginning was sent.
    is_inside: bool,
    left_bytes: u64,
    is_over: bool,
}

// === impl Reader ===

impl Reader {
    pub(super) fn new(run: Run, options: LogOptions) -> Self {
        let left_bytes = options.limit_bytes.unwrap_or(u64::MAX);
        Self {
            run,
            options,
            sent: None,
            rest: Vec::new(),
            is_inside: false,
            left_bytes,
            is_over: false,
        }
    }

    pub(super) fn stream(self) -> BoxStream<'static, Bytes> {
        stream::unfold(self, |mut reader| async move {
            let bytes = reader.next().await?;
            Some((bytes, reader))
        })
        .boxed()
    }

    /// The next bytes; `None` when all that was asked for was sent.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.is_over || self.left_bytes == 0 {
                return None;
            }
            let text = match self.sent {
                None => {
                    self.is_over = !self.options.follow;
                    self.first().await
                }
                Some(sent) => self.more(sent).await,
            };
            let mut text =
                text.inspect_err(|error| tracing::warn!(%error, "Cannot read a log")).ok()?;
            text.truncate(usize::try_from(self.left_bytes).unwrap_or(usize::MAX));
            self.left_bytes -= text.len() as u64;
            if !text.is_empty() {
                return Some(text.into());
            }
        }
    }

    /// The output until now, from the beginning or only its last lines.
    async fn first(&mut self) -> io::Result<Vec<u8>> {
        let before = *self.run.progress.borrow();
        let path = self.run.path.clone();
        let (text, read) = blocking(move || {
            let mut text = Vec::new();
            if before.rotations > 0 {
                read_from(&aside(&path), 0, u64::MAX, &mut text)?;
            }
            // Read no further than the known end of the file, so that lines written meanwhile are
            // not sent twice. A rotation in this instant loses the followed lines before it.
            let read = read_from(&path, 0, before.bytes, &mut text)?;
            Ok((text, read))
        })
        .await?;
        self.sent = Some(Progress { rotations: before.rotations, bytes: read });
        let text = self.recent(&text);
        Ok(self.render(&text))
    }

    /// The output since the last answer; waits for it, and ends with the run.
    async fn more(&mut self, sent: Progress) -> io::Result<Vec<u8>> {
        let mut now = *self.run.progress.borrow_and_update();
        if now == sent {
            if self.run.progress.changed().await.is_err() {
                self.is_over = true;
            }
            now = *self.run.progress.borrow_and_update();
        }
        let path: PathBuf = if now.rotations > sent.rotations {
            aside(&self.run.path)
        } else {
            self.run.path.clone()
        };
        let (text, read) = blocking(move || {
            let mut text = Vec::new();
            let read = read_from(&path, sent.bytes, MOST_AT_ONCE, &mut text)?;
            Ok((text, read))
        })
        .await?;
        let is_aside = now.rotations > sent.rotations;
        self.sent = Some(if is_aside && read < MOST_AT_ONCE {
            // All of the file that was moved aside was read; the new one is next. More than one
            // rotation between two reads is lost, as it is on the disk.
            Progress { rotations: now.rotations, bytes: 0 }
        } else {
            Progress { rotations: sent.rotations, bytes: sent.bytes + read }
        });
        // The run ended, but not all of it is sent yet.
        self.is_over &= self.sent == Some(now);
        Ok(self.render(&text))
    }

    /// The lines that `since_seconds` and `tail_lines` leave.
    fn recent(&self, text: &[u8]) -> Vec<u8> {
        let since = self.options.since_seconds.and_then(|seconds| {
            let ago = SignedDuration::from_secs(i64::try_from(seconds).ok()?);
            Timestamp::now().checked_sub(ago).ok()
        });
        // Nine digits after the second, always: so the text sorts as the time does.
        let since = since.map(|since| format!("{since:.9}").into_bytes());
        let most = self.options.tail_lines.map(usize::try_from);
        let most = most.map(|most| most.unwrap_or(usize::MAX));
        let mut starts = VecDeque::new();
        let (mut at, mut from, mut is_inside) = (0, text.len(), false);
        for piece in text.split_inclusive(|byte| *byte == b'\n') {
            if let Some((time, is_full, _)) = line::read(piece) {
                let is_wanted = since.as_deref().is_none_or(|since| time >= since);
                if is_wanted && !is_inside {
                    starts.push_back(at);
                }
                if most.is_some_and(|most| starts.len() > most) {
                    starts.pop_front();
                }
                is_inside = !is_full;
            }
            at += piece.len();
        }
        if let Some(first) = starts.front() {
            from = *first;
        }
        text[from..].to_vec()
    }

    /// Strips the time, stream and tag of each line; keeps a torn line for later.
    fn render(&mut self, text: &[u8]) -> Vec<u8> {
        let mut whole = std::mem::take(&mut self.rest);
        whole.extend_from_slice(text);
        let mut rendered = Vec::with_capacity(whole.len());
        for piece in whole.split_inclusive(|byte| *byte == b'\n') {
            let Some(piece) = piece.strip_suffix(b"\n") else {
                self.rest = piece.to_vec();
                break;
            };
            let Some((time, is_full, text)) = line::read(piece) else {
                continue;
            };
            if self.options.timestamps && !self.is_inside {
                rendered.extend_from_slice(time);
                rendered.push(b' ');
            }
            rendered.extend_from_slice(text);
            if is_full {
                rendered.push(b'\n');
            }
            self.is_inside = !is_full;
        }
        rendered
    }
}

/// Appends at most `most` bytes of the file from `from`; a file that is not there is empty.
fn read_from(path: &Path, from: u64, most: u64, into: &mut Vec<u8>) -> io::Result<u64> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    file.seek(SeekFrom::Start(from))?;
    let read = file.take(most).read_to_end(into)?;
    Ok(read as u64)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
