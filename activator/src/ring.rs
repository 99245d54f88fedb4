//! Which activator owns a revision: rendezvous hashing over the names of the members.
//!
//! Pure. Each member has a weight for each revision, and the heaviest owns it. All activators that
//! know the same members agree without a word. When a member leaves, only its own revisions move,
//! each to the member that was next in the order.
//!
//! Two versions of Ebb stand side by side while one replaces the other, so weights must never
//! change: FNV-1a, whose definition is fixed, and a mixer, because FNV alone leaves the upper bits
//! of short names alike. The hashers of `std` promise no stable values.

use std::hash::Hasher as _;

use ebb_api::report::RevisionKey;
use fnv::FnvHasher;

/// Most members: the weights of all are compared for each request of a limited revision. Members
/// whose names sort after these own nothing, so that every activator leaves out the same ones.
pub const MEMBERS_MAX: usize = 256;

/// The place of a revision on the ring; worth keeping, as it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point(u64);

/// The members; `P` says where each is.
#[derive(Debug)]
pub struct Ring<P> {
    /// Sorted by name.
    members: Vec<Member<P>>,
}

#[derive(Debug)]
struct Member<P> {
    name: String,
    seed: u64,
    place: P,
}

// === impl Point ===

impl Point {
    /// The point of a revision.
    pub fn of(revision: &RevisionKey) -> Self {
        // No name has a slash: different keys never give the same bytes.
        Self(hash([revision.namespace.as_str(), "/", revision.name.as_str()]))
    }
}

// === impl Ring ===

impl<P> Default for Ring<P> {
    fn default() -> Self {
        Self { members: Vec::new() }
    }
}

impl<P> Ring<P> {
    /// The ring of these members, in any order. Of two with one name the first counts.
    pub fn new(members: impl IntoIterator<Item = (String, P)>) -> Self {
        let mut members: Vec<_> = members
            .into_iter()
            .map(|(name, place)| Member { seed: hash([name.as_str()]), name, place })
            .collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members.dedup_by(|later, first| later.name == first.name);
        members.truncate(MEMBERS_MAX);
        Self { members }
    }

    /// How many members there are.
    pub const fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member.
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The owner of a revision; `None` only when the ring is empty.
    pub fn owner(&self, point: Point) -> Option<&P> {
        let heaviest = self.members.iter().max_by_key(|member| member.rank(point))?;
        Some(&heaviest.place)
    }

    /// All members in the order in which they own a revision: the owner, the member that takes over
    /// when the owner is gone, and so on.
    pub fn order(&self, point: Point) -> Vec<&P> {
        let mut order: Vec<_> = self.members.iter().collect();
        order.sort_by_key(|member| std::cmp::Reverse(member.rank(point)));
        order.into_iter().map(|member| &member.place).collect()
    }
}

// === impl Member ===

impl<P> Member<P> {
    /// The name decides between equal weights.
    fn rank(&self, point: Point) -> (u64, &str) {
        (mix(self.seed ^ point.0), &self.name)
    }
}

fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hasher = FnvHasher::default();
    for part in parts {
        hasher.write(part.as_bytes());
    }
    mix(hasher.finish())
}

/// The finaliser of MurmurHash3: each bit of the input changes half of the bits of the output.
const fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn ring<'a>(names: impl IntoIterator<Item = &'a String>) -> Ring<String> {
        Ring::new(names.into_iter().map(|name| (name.clone(), name.clone())))
    }

    fn point(number: usize) -> Point {
        Point::of(&RevisionKey::new("default", format!("digits-{number:05}")))
    }

    fn pods(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("ebb-activator-5d4f8c7b9-{number:05}")).collect()
    }

    fn names() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::btree_set("[a-z0-9]{1,8}", 1..12)
            .prop_map(|names| names.into_iter().collect::<Vec<_>>())
            .prop_shuffle()
    }

    proptest! {
        #[test]
        fn all_agree_whatever_order_they_heard_of_the_members_in(
            names in names(), number in 0_usize..100_000,
        ) {
            let mut sorted = names.clone();
            sorted.sort();
            let (one, other) = (ring(&names), ring(&sorted));
            let order = one.order(point(number));
            prop_assert_eq!(&order, &other.order(point(number)));
            prop_assert_eq!(order.first().copied(), other.owner(point(number)));
            let mut all: Vec<_> = order.into_iter().cloned().collect();
            all.sort();
            prop_assert_eq!(all, sorted, "each member is in the order once");
        }

        #[test]
        fn a_member_that_leaves_moves_its_own_revisions_only_and_each_to_the_next(
            names in names(), leaves in any::<prop::sample::Index>(), number in 0_usize..100_000,
        ) {
            let gone = names[leaves.index(names.len())].clone();
            let (before, after) =
                (ring(&names), ring(names.iter().filter(|name| **name != gone)));
            let order: Vec<_> =
                before.order(point(number)).into_iter().filter(|name| **name != gone).collect();
            prop_assert_eq!(after.order(point(number)), order);
        }
    }

    #[test]
    fn revisions_are_spread_over_the_members() {
        const REVISIONS: usize = 4000;
        for count in 2..=8 {
            let names = pods(count);
            let ring = ring(&names);
            let mut owned = BTreeMap::<_, usize>::new();
            for number in 0..REVISIONS {
                *owned.entry(ring.owner(point(number)).unwrap()).or_default() += 1;
            }
            let fair = REVISIONS / count;
            for (name, owned) in owned {
                assert!(owned.abs_diff(fair) < fair / 4, "{name} of {count} owns {owned}");
            }
        }
    }

    #[test]
    fn weights_are_the_same_in_every_version() {
        assert_eq!(point(1), Point(POINT_ONE));
        let names = pods(4);
        let ring = ring(&names);
        let owners: Vec<_> = (0..8)
            .map(|number| names.iter().position(|name| Some(name) == ring.owner(point(number))))
            .map(Option::unwrap)
            .collect();
        assert_eq!(owners, OWNERS);
    }

    #[test]
    fn an_empty_ring_has_no_owner_and_a_large_one_is_cut_alike_by_all() {
        assert_eq!(Ring::<String>::default().owner(point(1)), None);
        let mut names = pods(MEMBERS_MAX + 10);
        names.reverse();
        let cut = ring(&names);
        assert_eq!(cut.len(), MEMBERS_MAX);
        assert_eq!(cut.order(point(1)), ring(&pods(MEMBERS_MAX)).order(point(1)));
    }

    /// Computed by another program from the definitions of FNV-1a and of the mixer.
    const POINT_ONE: u64 = 0x6cb3_b153_0931_cc95;
    const OWNERS: [usize; 8] = [1, 2, 1, 0, 2, 3, 2, 3];
}
