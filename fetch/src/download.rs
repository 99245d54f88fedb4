//! Files that come over the network: several at once, gone on with after every interruption.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::cache::journal::{FetchJournal, FileMark};
use crate::cache::record::RecordedFile;
use crate::cache::room::{CacheRoom, size};
use crate::cache::{CachePlace, disk_error};
use crate::digest::Hashes;
use crate::error::{FetchError, FetchTrouble};
use crate::meter::{FetchPhase, Meter};
use crate::names;
use crate::origin::{Opened, Origin};
use crate::pace::{ArrivalPace, TOO_SLOW};
use crate::part::FilePart;
use crate::plan::{FetchPlan, Item};
use crate::report::FetchReport;
use crate::retry;
use crate::retry::Retries;

/// Files at once: they hide the round trips of small files, and one connection of a large one fills
/// most lines.
const FILES_AT_ONCE: usize = 4;
/// Bytes of one file that are held in memory before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// How often one file may change while it comes, before all files are listed anew.
const CHANGES_MAX: u32 = 3;

/// All that the files of one model share.
pub(crate) struct Download {
    pub(crate) origin: Box<dyn Origin>,
    pub(crate) place: CachePlace,
    pub(crate) room: Arc<CacheRoom>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) report: FetchReport,
    journal: Mutex<FetchJournal>,
}

/// A part that threads for blocking work borrow in turn; `None` once it is finished.
struct SharedPart(Arc<Mutex<Option<FilePart>>>);

// === impl Download ===

impl Download {
    pub(crate) fn new(
        origin: Box<dyn Origin>,
        place: CachePlace,
        room: Arc<CacheRoom>,
        meter: Arc<Meter>,
        report: FetchReport,
    ) -> Self {
        Self { origin, place, room, meter, report, journal: Mutex::default() }
    }

    /// Asks for the plan, until it is there.
    pub(crate) async fn plan(&self) -> Result<FetchPlan, FetchTrouble> {
        let mut retries = Retries::default();
        loop {
            match self.origin.plan().await {
                Err(FetchTrouble::Passing(what, asked)) => {
                    self.pause(&mut retries, false, (what, asked)).await?;
                }
                other => return other,
            }
        }
    }

    /// Fetches all files of a plan into `folder`.
    ///
    /// # Errors
    ///
    /// [`FetchTrouble::Changed`]: one is not in the state of the plan anymore.
    pub(crate) async fn files(
        &self,
        plan: &FetchPlan,
        source: &str,
        folder: &Path,
    ) -> Result<Vec<RecordedFile>, FetchTrouble> {
        self.begin(plan, source, folder)?;
        self.meter.restart(plan.total());
        if let Some(total) = plan.total() {
            let (room, folder) = (self.room.clone(), folder.to_owned());
            blocking(move || room.claim(total, size(&folder))).await?;
        }
        futures::stream::iter(&plan.items)
            .map(|item| self.file(item, folder.join(&item.name)))
            .buffered(FILES_AT_ONCE)
            .try_collect()
            .await
    }

    /// Compares the plan with what an earlier process began, and throws away what is of another
    /// state.
    fn begin(&self, plan: &FetchPlan, source: &str, folder: &Path) -> Result<(), FetchError> {
        let failed = |error: std::io::Error| disk_error(folder, &error);
        let earlier = FetchJournal::read(&self.place).unwrap_or_default();
        let mark = |item: &Item| {
            let planned = FileMark {
                size: item.listed.size,
                validator: item.listed.validator.clone(),
                checked: item.listed.expected.is_something(),
            };
            // A server that says its state with the file alone is asked with the state of then.
            let then = earlier.files.get(&item.name).filter(|then| {
                planned.validator.is_none()
                    && then.validator.is_some()
                    && then.checked == planned.checked
            });
            let mark = then.cloned();
            (item.name.clone(), mark.unwrap_or(planned))
        };
        let files: BTreeMap<String, FileMark> = plan.items.iter().map(mark).collect();
        let journal = FetchJournal::new(source, files);
        crate::cache::make_folder(folder).map_err(failed)?;
        let keep = |name: &str| journal.continues(&earlier, name);
        crate::cache::journal::prune(folder, &keep).map_err(failed)?;
        journal.write(&self.place).map_err(failed)?;
        *self.journal.lock() = journal;
        Ok(())
    }

    async fn file(&self, item: &Item, path: PathBuf) -> Result<RecordedFile, FetchTrouble> {
        let mut part = self.open(item, &path).await?;
        let mut was_there = part.length() > 0;
        let mut retries = Retries::default();
        // Where progress was counted last: going over the same bytes again is none.
        let (mut furthest, mut changes) = (part.length(), 0);
        loop {
            let what = match self.attempt(item, &part).await {
                Ok(()) => {
                    if let Some(file) = self.finish(item, &part, was_there).await? {
                        return Ok(file);
                    }
                    // What an earlier process left may be what is wrong: once more, all of it.
                    was_there = false;
                    furthest = 0;
                    part = self.open(item, &path).await?;
                    continue;
                }
                Err(FetchTrouble::Passing(what, asked)) => (what, asked),
                Err(FetchTrouble::Changed)
                    if item.listed.validator.is_none() && changes < CHANGES_MAX =>
                {
                    changes += 1;
                    // Of another file every byte is new.
                    furthest = 0;
                    part.restart(&self.meter).await?;
                    ("the file changed on its server".to_owned(), None)
                }
                Err(trouble) => return Err(trouble),
            };
            let progressed = retry::is_progress(furthest, part.length());
            if progressed {
                furthest = part.length();
            }
            self.pause(&mut retries, progressed, what).await?;
        }
    }

    async fn open(&self, item: &Item, path: &Path) -> Result<SharedPart, FetchError> {
        let (path, listed, meter) = (path.to_owned(), item.listed.clone(), self.meter.clone());
        if size(&path) > 0 {
            self.meter.enter(FetchPhase::Checking);
        }
        blocking(move || FilePart::open(&path, &listed.expected, listed.size, &meter))
            .await
            .map(SharedPart::new)
    }

    /// Reads one answer to its end, if anything is missing. What came is in `part`, however it ends.
    async fn attempt(&self, item: &Item, part: &SharedPart) -> Result<(), FetchTrouble> {
        let mark = self.mark(&item.name);
        // All of it may have come before the process ended that asked for it.
        if mark.size == Some(part.length()) && (mark.validator.is_some() || part.length() == 0) {
            return Ok(());
        }
        let from = if mark.validator.is_some() { part.length() } else { 0 };
        let opened = self.origin.open(&item.listed, from, mark.validator.as_deref()).await?;
        self.meter.enter(FetchPhase::Downloading);
        if opened.start == 0 {
            part.restart(&self.meter).await?;
        } else if opened.start != part.length() {
            return Err(FetchTrouble::Changed);
        }
        let known = mark.size.filter(|_| opened.start > 0);
        let size = item.listed.size.or(opened.size).or(known);
        self.learn(item, &mark, &opened, part.length()).await?;
        self.copy(opened, size, part).await?;
        match size {
            Some(size) if part.length() < size => {
                Err(FetchTrouble::passing("the server ended a file before its end"))
            }
            _ => Ok(()),
        }
    }

    /// Takes in what an answer says of its file.
    async fn learn(
        &self,
        item: &Item,
        mark: &FileMark,
        opened: &Opened,
        there: u64,
    ) -> Result<(), FetchTrouble> {
        if let Some(planned) = item.listed.size {
            let is_same = opened.size.is_none_or(|size| size == planned);
            return if is_same { Ok(()) } else { Err(FetchTrouble::Changed) };
        }
        let goes_on = opened.start > 0;
        let differs = opened.validator.is_some() && opened.validator != mark.validator;
        let sizes = opened.size.zip(mark.size);
        if goes_on && (differs || sizes.is_some_and(|(now, then)| now != then)) {
            return Err(FetchTrouble::Changed);
        }
        let new = FileMark {
            size: opened.size.or_else(|| mark.size.filter(|_| goes_on)),
            validator: if goes_on { mark.validator.clone() } else { opened.validator.clone() },
            checked: mark.checked,
        };
        self.meter.set_total(new.size);
        if let Some(total) = new.size {
            let room = self.room.clone();
            blocking(move || room.claim(total, there)).await?;
        }
        if new != *mark {
            let journal = {
                let mut journal = self.journal.lock();
                journal.files.insert(item.name.clone(), new);
                journal.clone()
            };
            let place = self.place.clone();
            blocking(move || {
                journal.write(&place).map_err(|error| disk_error(&place.journal(), &error))
            })
            .await?;
        }
        Ok(())
    }

    /// Writes a body as it comes, of a file of `size` bytes if that is known.
    async fn copy(
        &self,
        mut opened: Opened,
        size: Option<u64>,
        part: &SharedPart,
    ) -> Result<(), FetchTrouble> {
        let (mut held, mut bytes) = (Vec::new(), 0);
        let mut pace = ArrivalPace::new(Instant::now());
        loop {
            let ended = match opened.body.next().await {
                Some(Ok(chunk)) => {
                    bytes += chunk.len();
                    let is_slow = pace.is_too_slow(chunk.len(), Instant::now());
                    held.push(chunk);
                    is_slow.then(|| Err(FetchTrouble::passing(TOO_SLOW)))
                }
                Some(Err(trouble)) => Some(Err(trouble)),
                None => Some(Ok(())),
            };
            if bytes >= WRITE_BYTES || ended.is_some() {
                let length = part.length() + bytes as u64;
                if size.is_some_and(|size| length > size) {
                    return Err(FetchTrouble::lasting(
                        "the server sent more of a file than it said",
                    ));
                }
                if size.is_none() {
                    let room = self.room.clone();
                    blocking(move || room.grow(length)).await?;
                }
                part.write(std::mem::take(&mut held)).await?;
                self.meter.came(bytes as u64);
                bytes = 0;
                // What the disk takes is not the server's time.
                pace = ArrivalPace::new(Instant::now());
            }
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// The finished file; `None` if it was wrong and may have been so for what an earlier process
    /// left.
    async fn finish(
        &self,
        item: &Item,
        part: &SharedPart,
        was_there: bool,
    ) -> Result<Option<RecordedFile>, FetchTrouble> {
        let length = part.length();
        let path = part.path();
        let (size, hashes) = part.finish().await?;
        if item.listed.expected.matches(&hashes) {
            let (path, sha256) = (item.name.clone(), hashes.sha256);
            return Ok(Some(RecordedFile { path, size, sha256 }));
        }
        crate::cache::remove(&path).map_err(|error| disk_error(&path, &error))?;
        self.meter.lost(length);
        if was_there {
            return Ok(None);
        }
        Err(FetchTrouble::lasting(format!(
            "the file {} does not have its checksum: it was damaged or replaced; compare the source",
            names::shown(&item.name)
        )))
    }

    fn mark(&self, name: &str) -> FileMark {
        self.journal.lock().files.get(name).cloned().unwrap_or_default()
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    ///
    /// There is none.
    async fn pause(
        &self,
        retries: &mut Retries,
        progressed: bool,
        (what, asked): (String, Option<Duration>),
    ) -> Result<(), FetchError> {
        let Some(pause) = retries.after_failure(progressed, asked, rand::random()) else {
            return Err(FetchError::Failed(format!(
                "{what}, {} times in a row: see whether the server is well, and try again",
                retries.in_vain()
            )));
        };
        self.report
            .note(&format!("{what}; the next attempt comes in {:.1} s", pause.as_secs_f64()));
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

// === impl SharedPart ===

impl SharedPart {
    fn new(part: FilePart) -> Self {
        Self(Arc::new(Mutex::new(Some(part))))
    }

    fn length(&self) -> u64 {
        self.0.lock().as_ref().map_or(0, FilePart::length)
    }

    fn path(&self) -> PathBuf {
        self.0.lock().as_ref().map(|part| part.path().to_owned()).unwrap_or_default()
    }

    async fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Option<FilePart>) -> Result<T, FetchError> + Send + 'static,
    ) -> Result<T, FetchError> {
        let part = self.0.clone();
        blocking(move || act(&mut part.lock())).await
    }

    async fn write(&self, chunks: Vec<Bytes>) -> Result<(), FetchError> {
        self.with(move |part| part.as_mut().map_or(Ok(()), |part| part.write(&chunks))).await
    }

    async fn restart(&self, meter: &Arc<Meter>) -> Result<(), FetchError> {
        let meter = meter.clone();
        self.with(move |part| part.as_mut().map_or(Ok(()), |part| part.restart(&meter))).await
    }

    async fn finish(&self) -> Result<(u64, Hashes), FetchError> {
        self.with(|part| part.take().expect("a part is finished once").finish()).await
    }
}

/// Runs what blocks on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    match spawn_blocking(act).await {
        Ok(ended) => ended,
        // It is never cancelled once it runs; before that only the end of the process does it.
        Err(error) if error.is_cancelled() => Err(FetchError::Stopped),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
