//! One fetch, from its arguments to the finished folder.

use std::fs::File;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use ebb_api::model_source::ModelSource;
use ebb_api::quantity;
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::address::Allowed;
use crate::cache;
use crate::cache::record::{ModelRecord, RecordedFile};
use crate::cache::removal;
use crate::cache::room::CacheRoom;
use crate::cache::{CachePlace, disk_error, lock, record};
use crate::digest;
use crate::download::{Download, blocking};
use crate::error::{FetchError, FetchTrouble};
use crate::meter::{FetchPhase, Meter};
use crate::net::CheckedClient;
use crate::options::FetchOptions;
use crate::origin;
use crate::plan::FetchPlan;
use crate::report;
use crate::report::FetchReport;
use crate::unpack;

/// How often a model is listed anew because it changed while it was fetched.
const ROUNDS_MAX: usize = 3;

/// How long others may have the lock of users of a model that is damaged: one that starts has it for a
/// moment, until it waits for this fetch.
const STARTERS_PASS: Duration = Duration::from_secs(2);

/// One fetch.
struct Fetch<'a> {
    options: &'a FetchOptions,
    source: ModelSource,
    place: CachePlace,
    meter: Arc<Meter>,
    report: FetchReport,
    /// Whether this process has the lock of the fetch.
    is_alone: AtomicBool,
}

/// Fetches the model, if it is not in the cache, and marks it as used now.
///
/// While it has a model it holds the shared lock of users, and while it fetches one that of the fetch
/// too, so that no other fetch takes the model for room.
/// A fetch that is dropped, or whose process is killed, leaves what it has for the next one.
///
/// # Errors
///
/// The model cannot be had, or SIGTERM or SIGINT came.
pub async fn run(options: &FetchOptions) -> Result<(), FetchError> {
    let source = ModelSource::parse(&options.source)
        .map_err(|error| FetchError::Arguments(format!("the source makes no sense: {error}")))?;
    let cache = options.cache.as_deref().ok_or_else(|| {
        FetchError::Arguments("--cache names the folder that keeps models: give it".to_owned())
    })?;
    let key = source.key();
    if let Some(wanted) = options.key.as_deref().filter(|wanted| *wanted != key) {
        return Err(FetchError::Arguments(format!(
            "the folder of {source} is {key} and not {wanted:?}: the source is another one than the \
             one that --key was made of"
        )));
    }
    let place = CachePlace::new(cache, &key);
    let (meter, report) = (Arc::new(Meter::default()), FetchReport::new(options.quiet));
    let fetch = Fetch { options, source, place, meter, report, is_alone: AtomicBool::new(false) };
    let watch = |kind| {
        signal(kind)
            .map_err(|error| FetchError::Failed(format!("no signal can be watched: {error}")))
    };
    let (terminate, interrupt) = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
    let ended = fetch.until_stopped(terminate, interrupt).await;
    fetch.report.end();
    ended
}

// === impl Fetch ===

impl Fetch<'_> {
    async fn until_stopped(
        &self,
        mut terminate: Signal,
        mut interrupt: Signal,
    ) -> Result<(), FetchError> {
        tokio::select! {
            ended = self.locked() => ended,
            _ = terminate.recv() => self.stop(),
            _ = interrupt.recv() => self.stop(),
        }
    }

    fn stop(&self) -> Result<(), FetchError> {
        self.meter.stop();
        // While another process fetches, the file of progress is its own.
        if self.is_alone.load(Ordering::Relaxed) {
            self.meter.fail(&FetchError::Stopped);
            drop(report::write(&self.place, &self.meter));
        }
        Err(FetchError::Stopped)
    }

    /// Fetches under the locks: that of users while a model is there, that of the fetch while it is not.
    async fn locked(&self) -> Result<(), FetchError> {
        let (place, key) = (&self.place, &self.place.key);
        let failed = |error: io::Error| disk_error(&place.cache, &error);
        cache::make_folder(&place.cache).map_err(failed)?;
        let removes = || {
            self.report.note(&format!("Another process removes {key}: waiting for its end"));
        };
        let used = match lock::wait(&place.used(), true, removes).await {
            // Nobody removes anything from a cache that is read-only, as far as can be seen from here.
            Err(error) if lock::is_read_only(&error) && self.is_there() => return Ok(()),
            other => other.map_err(failed)?,
        };
        if self.is_there() {
            return Ok(());
        }
        let fetches = || {
            self.report.note(&format!("Another process fetches {key}: waiting for its end"));
        };
        // Whoever waits uses nothing yet, and must not keep a damaged model from being replaced. The
        // lock of the fetch holds removals off as well.
        used.unlock().map_err(failed)?;
        let _fetched = lock::wait(&place.lock(), false, fetches).await.map_err(failed)?;
        lock::take(&used, true, || {}).await.map_err(failed)?;
        // Of NFS a client remembers for a while that a name was not there, until it reads the folder.
        drop(std::fs::read_dir(&place.cache).map(Iterator::count));
        if self.is_there() {
            return Ok(());
        }
        self.is_alone.store(true, Ordering::Relaxed);
        let ended = self.reported(self.fetch(&used)).await.map_err(|error| self.told(error));
        match &ended {
            Ok(()) => self.meter.enter(FetchPhase::Done),
            Err(error) => self.meter.fail(error),
        }
        // A disk that is full has no room for it; the process's last line says the same.
        drop(report::write(place, &self.meter));
        ended
    }

    /// Whether the model is whole; then it is used now.
    fn is_there(&self) -> bool {
        let record = ModelRecord::read(&self.place);
        let hash = self.source_hash();
        let whole = record.filter(|record| record.is_whole(&self.place, &hash));
        let Some(record) = whole else { return false };
        record::touch(&self.place, SystemTime::now());
        self.meter.restart(Some(record.bytes()));
        self.meter.has(record.bytes());
        self.meter.enter(FetchPhase::Done);
        // A process that was killed right after the rename did not say so. One that did is not
        // repeated: others may start at the same moment, and would write the same file.
        if !report::says_done(&self.place) {
            drop(report::write(&self.place, &self.meter));
        }
        self.report.note(&format!(
            "{} is in the cache: {} in {}",
            self.source,
            quantity::bytes(record.bytes()),
            counted(record.files.len()),
        ));
        true
    }

    /// Tells of progress while the work lasts.
    async fn reported<T>(
        &self,
        work: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        tokio::select! {
            ended = work => ended,
            never = self.report.run(self.place.clone(), self.meter.clone()) => match never {},
        }
    }

    /// The error with the model's name before it.
    fn told(&self, error: FetchError) -> FetchError {
        match error {
            FetchError::Failed(why) => {
                FetchError::Failed(format!("{} cannot be fetched: {why}", self.source))
            }
            other => other,
        }
    }

    /// What tells the source from all others, a URL's query included, without showing it.
    fn source_hash(&self) -> String {
        digest::sha256(self.source.whole().as_bytes())
    }

    /// Removes leftovers of others, and a finished folder of this name that is not the model.
    async fn clear(&self, used: &File) -> Result<(), FetchError> {
        let failed = |error: io::Error| disk_error(&self.place.cache, &error);
        let finished = self.place.folder();
        let is_finished = finished.symlink_metadata().is_ok();
        if is_finished && !lock::make_exclusive(used, STARTERS_PASS).await.map_err(failed)? {
            return Err(FetchError::Failed(format!(
                "what {} has is damaged or of another source, and another process uses it: stop what \
                 uses it, and try again",
                finished.display()
            )));
        }
        let place = self.place.clone();
        blocking(move || {
            let failed = |error: io::Error| disk_error(&place.cache, &error);
            removal::sweep(&place.cache, &place.key, SystemTime::now()).map_err(failed)?;
            removal::discard_finished(&place).map_err(failed)
        })
        .await?;
        // Shared again: users may come while it is fetched.
        lock::take(used, true, || {}).await.map_err(failed)
    }

    async fn fetch(&self, used: &File) -> Result<(), FetchError> {
        let began = Instant::now();
        self.clear(used).await?;
        let allowed = Allowed::new(self.options.allow_network.clone());
        let client = CheckedClient::new(allowed, self.options.idle_timeout)?;
        let origin = origin::of(&self.source, client)?;
        let room = Arc::new(CacheRoom::new(&self.place, self.options.limit));
        let (place, meter, report) = (self.place.clone(), self.meter.clone(), self.report.clone());
        let download = Download::new(origin, place, room.clone(), meter, report);
        let (plan, files) = self.download(&download).await?;
        let files = self.unpack(files, room).await?;
        let (count, bytes) = self.finish(plan, files).await?;
        let (lasted, came) = (began.elapsed(), self.meter.over_the_network());
        self.report.note(&format!(
            "{} is fetched: {} in {}, {} of it over the network, in {}",
            self.source,
            quantity::bytes(bytes),
            counted(count),
            quantity::bytes(came),
            report::time(lasted),
        ));
        Ok(())
    }

    /// The folder that the files of the plan go to.
    fn target(&self) -> PathBuf {
        match self.source.archive() {
            None => self.place.partial(),
            Some(_) => self.place.archive(),
        }
    }

    async fn download(
        &self,
        download: &Download,
    ) -> Result<(FetchPlan, Vec<RecordedFile>), FetchError> {
        let source = self.source_hash();
        for _ in 0..ROUNDS_MAX {
            self.meter.enter(FetchPhase::Listing);
            let ended = match download.plan().await {
                Ok(plan) => {
                    let files = download.files(&plan, &source, &self.target()).await;
                    files.map(|files| (plan, files))
                }
                Err(trouble) => Err(trouble),
            };
            match ended {
                Ok(found) => return Ok(found),
                Err(FetchTrouble::Lasting(error)) => return Err(error),
                Err(FetchTrouble::Passing(what, _)) => return Err(FetchError::Failed(what)),
                Err(FetchTrouble::Changed) => {
                    self.report.note("The files changed: listing them anew");
                }
            }
        }
        Err(FetchError::Failed(format!(
            "its files changed {ROUNDS_MAX} times while they came: try again when they are all there"
        )))
    }

    /// Unpacks the archive, if the source is one; the files of the model.
    async fn unpack(
        &self,
        files: Vec<RecordedFile>,
        room: Arc<CacheRoom>,
    ) -> Result<Vec<RecordedFile>, FetchError> {
        let Some(kind) = self.source.archive() else { return Ok(files) };
        self.meter.enter(FetchPhase::Unpacking);
        let (place, meter) = (self.place.clone(), self.meter.clone());
        let name = files.into_iter().next().map(|file| file.path).unwrap_or_default();
        blocking(move || {
            let folder = place.partial();
            // What was unpacked of it before is not looked at: a crash may have cut any file off.
            unpack::empty(&folder)?;
            unpack::unpack(&place.archive().join(name), kind, &folder, &room, &meter)
        })
        .await
    }

    /// Makes the folder appear, with its record; how many files and bytes it has.
    async fn finish(
        &self,
        plan: FetchPlan,
        files: Vec<RecordedFile>,
    ) -> Result<(usize, u64), FetchError> {
        let (source, fetched) = (self.source.to_string(), Timestamp::now().to_string());
        let (source_sha256, version) = (self.source_hash(), plan.version);
        let record = ModelRecord { source, source_sha256, version, fetched, files };
        let place = self.place.clone();
        blocking(move || {
            let failed = |error: io::Error| disk_error(&place.cache, &error);
            cache::sync_tree(&place.partial()).map_err(failed)?;
            // The record first: without its folder it is nothing, and the next fetch goes on.
            record.write(&place).map_err(failed)?;
            std::fs::rename(place.partial(), place.folder()).map_err(failed)?;
            cache::sync_folder(&place.cache).map_err(failed)?;
            cache::remove(&place.archive()).map_err(failed)?;
            cache::remove(&place.journal()).map_err(failed)?;
            cache::remove(&place.claim()).map_err(failed)?;
            Ok((record.files.len(), record.bytes()))
        })
        .await
    }
}

fn counted(files: usize) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}
