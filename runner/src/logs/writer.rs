//! From a process's pipes to its file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ebb_apiserver::private;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use crate::process::Output;

use super::Progress;
use super::line::{self, Splitter, Tail};

/// A file of this size is moved aside; kubelet's `containerLogMaxSize`.
const ROTATE_AT: u64 = 10 * 1024 * 1024;

/// Bytes read in one go; each idle container holds two buffers of it.
const CHUNK: usize = 16 * 1024;

/// How long output may still come after the process ended and its group was killed.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The file of one run, not open yet.
#[derive(Debug)]
pub(crate) struct LogWriter {
    path: PathBuf,
    progress: watch::Sender<Progress>,
    obsolete: Option<PathBuf>,
    rotate_at: u64,
}

/// The running copy from pipes to file.
#[derive(Debug)]
pub(crate) struct LogTask {
    task: JoinHandle<()>,
    tail: Arc<Mutex<Tail>>,
}

struct Sink {
    path: PathBuf,
    progress: watch::Sender<Progress>,
    file: Option<File>,
    written: Progress,
    rotate_at: u64,
    /// Whether a failure was logged.
    is_told: bool,
}

// === impl LogWriter ===

impl LogWriter {
    pub(super) fn new(
        path: PathBuf,
        progress: watch::Sender<Progress>,
        obsolete: Option<PathBuf>,
    ) -> Self {
        Self { path, progress, obsolete, rotate_at: ROTATE_AT }
    }

    #[cfg(test)]
    pub(super) fn rotate_at(mut self, bytes: u64) -> Self {
        self.rotate_at = bytes;
        self
    }

    /// Copies the output of a process until both pipes end.
    pub(crate) fn copy(self, output: Output) -> LogTask {
        let Output { stdout, stderr } = output;
        self.copy_from(stdout, stderr)
    }

    pub(super) fn copy_from(
        self,
        stdout: impl AsyncRead + Unpin + Send + 'static,
        stderr: impl AsyncRead + Unpin + Send + 'static,
    ) -> LogTask {
        let tail = Arc::new(Mutex::new(Tail::default()));
        let shared = Arc::clone(&tail);
        let task = tokio::spawn(self.run(stdout, stderr, shared));
        LogTask { task, tail }
    }

    async fn run(
        self,
        mut stdout: impl AsyncRead + Unpin,
        mut stderr: impl AsyncRead + Unpin,
        tail: Arc<Mutex<Tail>>,
    ) {
        if let Some(path) = &self.obsolete {
            // Either may not exist, for example if the run printed nothing.
            let _ = fs::remove_file(path).await;
            let _ = fs::remove_file(aside(path)).await;
        }
        let mut sink = Sink {
            path: self.path,
            progress: self.progress,
            file: None,
            written: Progress::default(),
            rotate_at: self.rotate_at,
            is_told: false,
        };
        let mut buffers = [Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK)];
        let mut splitters = [Splitter::default(), Splitter::default()];
        let mut is_open = [true, true];
        let mut lines = Vec::new();
        while is_open != [false, false] {
            let [first, second] = &mut buffers;
            let (index, read) = tokio::select! {
                read = stdout.read_buf(first), if is_open[0] => (0, read),
                read = stderr.read_buf(second), if is_open[1] => (1, read),
            };
            let now = Timestamp::now();
            let name = ["stdout", "stderr"][index];
            let each = |text: &[u8], is_full: bool| {
                line::write(&mut lines, now, name, text, is_full);
                tail.lock().push(text);
            };
            if matches!(read, Ok(1..)) {
                splitters[index].push(&buffers[index], each);
                buffers[index].clear();
            } else {
                is_open[index] = false;
                splitters[index].finish(each);
            }
            sink.write(&lines).await;
            lines.clear();
        }
    }
}

// === impl LogTask ===

impl LogTask {
    /// After the process ended: waits for its last words and returns the last lines of the log.
    pub(crate) async fn finish(mut self) -> String {
        // A process that escaped its group may hold the pipe; it must not hold up the pod.
        if timeout(LAST_WORDS, &mut self.task).await.is_err() {
            self.task.abort();
        }
        self.tail.lock().text()
    }
}

// === impl Sink ===

impl Sink {
    /// Appends to the file. A failure (a full disk) loses lines and is logged once. It never stalls
    /// the program: its pipes are read on.
    async fn write(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        if let Err(error) = self.try_write(lines).await
            && !std::mem::replace(&mut self.is_told, true)
        {
            let path = self.path.display();
            tracing::warn!(%error, %path, "Cannot write a log: lines are lost");
        }
    }

    async fn try_write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.written.bytes >= self.rotate_at {
            fs::rename(&self.path, aside(&self.path)).await?;
            self.file = None;
            self.written.rotations += 1;
            self.written.bytes = 0;
        }
        let file = if let Some(file) = self.file.as_mut() {
            file
        } else {
            if let Some(folder) = self.path.parent() {
                let folder = folder.to_owned();
                // A private folder: models print the requests that they get.
                spawn_blocking(move || private::folder(&folder))
                    .await
                    .map_err(io::Error::other)??;
            }
            let mut options = OpenOptions::from(private::file());
            options.create(true).append(true);
            self.file.insert(options.open(&self.path).await?)
        };
        file.write_all(lines).await?;
        // Until the flush ends, the bytes may be on their way to another thread.
        file.flush().await?;
        self.written.bytes += lines.len() as u64;
        self.progress.send_replace(self.written);
        Ok(())
    }
}

/// Where a file that reached its limit is moved.
pub(super) fn aside(path: &std::path::Path) -> PathBuf {
    path.with_extension("log.1")
}
