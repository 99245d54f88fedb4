//! How requests are divided over revisions.

/// How the requests of one host or model are divided.
#[derive(Debug)]
pub(super) struct Split<T> {
    /// Each revision with the sum of the shares up to and including its own.
    shares: Vec<(u32, T)>,
    total: u32,
}

// === impl Split ===

impl<T> Split<T> {
    /// `None` when no share is above zero.
    pub(super) fn of(targets: impl IntoIterator<Item = (u32, T)>) -> Option<Self> {
        let mut total = 0_u32;
        let shares: Vec<_> = targets
            .into_iter()
            .filter(|(percent, _)| *percent > 0)
            .map(|(percent, target)| {
                total = total.saturating_add(percent);
                (total, target)
            })
            .collect();
        (total > 0).then_some(Self { shares, total })
    }

    /// The target with the largest share, the first of several.
    pub(super) fn largest(&self) -> &T {
        let mut before = 0;
        let mut largest = (0, 0);
        for (at, (upto, _)) in self.shares.iter().enumerate() {
            if upto - before > largest.0 {
                largest = (upto - before, at);
            }
            before = *upto;
        }
        &self.shares[largest.1].1
    }

    pub(super) fn pick(&self, random: u64) -> &T {
        let point = random % u64::from(self.total);
        let at = self.shares.partition_point(|(upto, _)| u64::from(*upto) <= point);
        // `point` is below the last sum, so `at` is a valid index; the clamp says so to the reader.
        &self.shares[at.min(self.shares.len() - 1)].1
    }
}
