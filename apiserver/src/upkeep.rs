//! The upkeep of a store: syncs and compacts the journal, and drops old events.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::handler::Clock;
use crate::selector::Selector;
use crate::store::{EVENTS, Store, StoreError};

/// How often the journal is synced, and so the most that a power cut may lose.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Time from a compaction that failed to the next attempt, which writes all objects again.
const COMPACT_RETRY_AFTER: Duration = Duration::from_secs(15);
/// How often old events are looked for.
const EVENTS_EVERY: Duration = Duration::from_mins(1);
/// Age at which an event is dropped; Kubernetes' own default.
const EVENT_TTL: SignedDuration = SignedDuration::from_hours(1);

/// Syncs and compacts the journal until `shutdown`, and syncs it once more then.
///
/// A failed compaction is tried again. Most often it lacked room; then writes go on for as long as
/// there is some. A failed sync is final, see `journal`.
pub(crate) async fn keep_journal(store: Arc<Store>, shutdown: CancellationToken) {
    let mut ticks = interval_at(Instant::now() + SYNC_EVERY, SYNC_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut compact_from = Instant::now();
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            () = shutdown.cancelled() => true,
        };
        if store.is_untidy() {
            let (worker, compacting) = (Arc::clone(&store), compact_from <= Instant::now());
            let done = spawn_blocking(move || {
                sync(&worker, File::sync_data);
                if compacting { compact(&worker) } else { Ok(()) }
            });
            if let Err(error) = done.await.map_err(io::Error::other).and_then(|done| done) {
                compact_from = Instant::now() + COMPACT_RETRY_AFTER;
                tracing::error!(
                    %error,
                    "Cannot compact the journal, will try again: make room on the disk"
                );
            }
        }
        if last {
            return;
        }
    }
}

/// Syncs the journal, and notes the outcome.
fn sync(store: &Store, sync: impl Fn(&File) -> io::Result<()>) {
    let synced = store.unsynced().and_then(|unsynced| {
        let Some(unsynced) = unsynced else { return Ok(()) };
        let outcome = sync(&unsynced.file);
        if let Err(error) = &outcome {
            tracing::error!(
                %error,
                "The disk did not keep the last changes, so no more are taken: check the disk, \
                 then restart"
            );
        }
        store.synced(&unsynced, &outcome)
    });
    if let Err(error) = synced {
        // There is no room for the note, or no file descriptor: tried again a second later.
        tracing::debug!(%error, "Cannot note down that the journal is synced");
    }
}

fn compact(store: &Store) -> io::Result<()> {
    if let Some((compaction, records)) = store.begin_compaction()? {
        let objects = records.len();
        store.compacted(compaction.finish(records.into_iter())?);
        tracing::debug!(objects, "Compacted the journal");
    }
    Ok(())
}

/// Drops old events until `shutdown`.
pub(crate) async fn expire_events(store: Arc<Store>, clock: Clock, shutdown: CancellationToken) {
    let mut ticks = interval_at(Instant::now() + EVENTS_EVERY, EVENTS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        if let Err(error) = drop_old_events(&store, clock()) {
            tracing::warn!(%error, "Cannot drop old events");
        }
    }
}

fn drop_old_events(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let oldest = now.saturating_sub(EVENT_TTL).unwrap_or(Timestamp::MIN);
    let page = store.list(EVENTS, None, &Selector::default(), (None, usize::MAX));
    for event in page.objects {
        let last_seen = last_seen(&event.value());
        if last_seen.is_some_and(|at| at >= oldest) {
            continue;
        }
        match store.remove(EVENTS, &event) {
            // The event was removed, was seen again meanwhile, or is gone already.
            Ok(_) | Err(StoreError::Changed) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// When an event was last reported.
fn last_seen(event: &Value) -> Option<Timestamp> {
    let times = [
        &event["metadata"]["creationTimestamp"],
        &event["eventTime"],
        &event["lastTimestamp"],
        &event["series"]["lastObservedTime"],
    ];
    times.into_iter().filter_map(|time| time.as_str()?.parse().ok()).max()
}

#[cfg(test)]
mod full_disk;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::journal::{Journal, Recovered};

    #[test]
    fn events_older_than_an_hour_are_dropped() {
        let store = Store::new(Recovered::default(), None).unwrap();
        let event = |name: &str, seen: &str| {
            json!({
                "metadata": { "name": name, "creationTimestamp": "2026-01-01T00:00:00Z" },
                "lastTimestamp": seen,
            })
        };
        store.create(EVENTS, event("old", "2026-01-01T00:00:00Z")).unwrap();
        store.create(EVENTS, event("seen-again", "2026-01-01T00:59:00Z")).unwrap();
        drop_old_events(&store, "2026-01-01T01:00:01Z".parse().unwrap()).unwrap();
        assert!(store.get(EVENTS, "", "old").is_none());
        assert!(store.get(EVENTS, "", "seen-again").is_some());
    }

    /// One failed sync is the end of writing, even if the next one succeeds.
    #[test]
    fn a_failed_sync_is_final_and_says_what_to_do() {
        let folder = tempfile::TempDir::new().unwrap();
        let (journal, recovered) = Journal::open(folder.path()).unwrap();
        let store = Store::new(recovered, Some(journal)).unwrap();
        let event = |name: &str| json!({ "metadata": { "name": name } });
        store.create(EVENTS, event("kept")).unwrap();
        sync(&store, |_| Err(io::Error::other("I/O error")));
        sync(&store, File::sync_data);
        let refused = store.create(EVENTS, event("refused")).unwrap_err();
        let StoreError::Journal(error) = refused else { panic!("{refused}") };
        assert!(error.to_string().contains("check the disk, then restart"), "{error}");
        assert!(store.get(EVENTS, "", "refused").is_none());
        assert!(!store.is_untidy(), "there is nothing left to do about it");
    }
}
