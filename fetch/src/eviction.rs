//! Which models leave a cache for another one.

use std::time::SystemTime;

/// Another model of the cache.
#[derive(Clone, Debug)]
pub(crate) struct HeldModel {
    pub(crate) key: String,
    /// Bytes that it takes, and will take if it is being fetched.
    pub(crate) bytes: u64,
    /// Its last use.
    pub(crate) used: SystemTime,
    /// Whether a process uses or fetches it: then it stays.
    pub(crate) busy: bool,
}

/// The cache is too small, whatever goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CacheShortage {
    /// Bytes of models that are in use.
    pub(crate) busy: u64,
}

/// The models that go, least recently used first, so that `mine` bytes fit beside the others.
pub(crate) fn choose(
    limit: u64,
    mine: u64,
    others: &[HeldModel],
) -> Result<Vec<String>, CacheShortage> {
    let sum =
        |held: &[&HeldModel]| held.iter().fold(0_u64, |sum, held| sum.saturating_add(held.bytes));
    let (busy, mut idle): (Vec<&HeldModel>, Vec<&HeldModel>) =
        others.iter().partition(|held| held.busy);
    let kept = sum(&busy);
    if mine.saturating_add(kept) > limit {
        return Err(CacheShortage { busy: kept });
    }
    idle.sort_by(|a, b| a.used.cmp(&b.used).then_with(|| a.key.cmp(&b.key)));
    let mut all = mine.saturating_add(kept).saturating_add(sum(&idle));
    let mut go = Vec::new();
    for held in idle {
        if all <= limit {
            break;
        }
        // One that takes nothing makes no room.
        if held.bytes > 0 {
            all = all.saturating_sub(held.bytes);
            go.push(held.key.clone());
        }
    }
    Ok(go)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn held(key: &str, bytes: u64, used: u64, busy: bool) -> HeldModel {
        let used = SystemTime::UNIX_EPOCH + Duration::from_secs(used);
        HeldModel { key: key.to_owned(), bytes, used, busy }
    }

    #[test]
    fn the_least_recently_used_go_and_no_more_than_needed() {
        let others =
            [held("new", 30, 9, false), held("old", 30, 1, false), held("mid", 30, 5, false)];
        assert_eq!(choose(100, 10, &others), Ok(vec![]));
        assert_eq!(choose(100, 11, &others), Ok(vec!["old".to_owned()]));
        assert_eq!(choose(100, 41, &others), Ok(vec!["old".to_owned(), "mid".to_owned()]));
        assert_eq!(choose(100, 100, &others).map(|go| go.len()), Ok(3));
    }

    #[test]
    fn one_in_use_stays_however_old() {
        let others = [held("busy", 30, 0, true), held("idle", 30, 9, false)];
        assert_eq!(choose(100, 60, &others), Ok(vec!["idle".to_owned()]));
        assert_eq!(choose(100, 71, &others), Err(CacheShortage { busy: 30 }));
    }

    #[test]
    fn nothing_goes_for_a_model_that_never_fits() {
        let others = [held("idle", 30, 9, false)];
        assert_eq!(choose(100, 101, &others), Err(CacheShortage { busy: 0 }));
        assert_eq!(choose(100, u64::MAX, &others), Err(CacheShortage { busy: 0 }));
    }
}
