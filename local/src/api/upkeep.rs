//! What the store needs from time to time: the journal synced and compacted, old events dropped.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::handler::Clock;
use super::selector::Selector;
use super::store::{EVENTS, Store, StoreError};

/// How often the disk is told to keep what was written: what a power cut may lose.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often old events are looked for.
const EVENTS_EVERY: Duration = Duration::from_mins(1);
/// Age at which an event is dropped; Kubernetes' own default.
const EVENT_TTL: SignedDuration = SignedDuration::from_hours(1);

/// Syncs and compacts the journal until `shutdown`, and once more then.
///
/// A journal that cannot be synced or compacted is logged; writes go on for as long as the
/// kernel takes them.
pub(crate) async fn keep_journal(store: Arc<Store>, shutdown: CancellationToken) {
    let mut ticks = interval_at(Instant::now() + SYNC_EVERY, SYNC_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut synced = store.revision();
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            () = shutdown.cancelled() => true,
        };
        let revision = store.revision();
        if revision != synced {
            let worker = Arc::clone(&store);
            let done = spawn_blocking(move || tidy(&worker)).await;
            match done.map_err(io::Error::other).and_then(|done| done) {
                Ok(()) => synced = revision,
                Err(error) => tracing::error!(%error, "Cannot sync or compact the journal"),
            }
        }
        if last {
            return;
        }
    }
}

fn tidy(store: &Store) -> io::Result<()> {
    if let Some(file) = store.journal_handle() {
        file?.sync_data()?;
    }
    if let Some((compaction, records)) = store.begin_compaction()? {
        let objects = records.len();
        compaction.finish(records.into_iter())?;
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
            // It was seen again, or is gone already.
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::journal::Recovered;

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
}
