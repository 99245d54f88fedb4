use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const DURATION: Duration = Duration::from_secs(3);
const MARGIN: Duration = Duration::from_millis(500);

fn candidate(identity: &str) -> Candidate {
    Candidate::new("autoscaler", identity, DURATION, MARGIN)
}

/// An API server with one lease.
#[derive(Default)]
struct Server {
    stored: Option<Lease>,
    version: u64,
}

impl Server {
    /// Writes unless the version is out of date, as the API server does.
    fn write(&mut self, step: Step) -> Option<Lease> {
        let mut lease = match step {
            Step::Create(lease) if self.stored.is_none() => lease,
            Step::Replace(lease)
                if self.stored.as_ref().map(|stored| &stored.metadata.resource_version)
                    == Some(&lease.metadata.resource_version) =>
            {
                lease
            }
            Step::Wait | Step::Create(_) | Step::Replace(_) => return None,
        };
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.stored = Some(lease.clone());
        Some(lease)
    }

    /// The step of a candidate at `now`: its renewal as long as no other has written.
    fn ask(&self, candidate: &mut Candidate, now: Instant) -> Step {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        match candidate.renewal(now, Timestamp::UNIX_EPOCH) {
            Some(lease) if self.stored.as_ref().map(version) == Some(version(&lease)) => {
                Step::Replace(lease)
            }
            _ => candidate.step(self.stored.clone(), now, Timestamp::UNIX_EPOCH),
        }
    }

    fn round(&mut self, candidate: &mut Candidate, now: Instant) {
        let step = self.ask(candidate, now);
        if let Some(lease) = self.write(step) {
            candidate.acquired(lease, now);
        }
    }

    fn spec(&self) -> &LeaseSpec {
        self.stored.as_ref().unwrap().spec.as_ref().unwrap()
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_and_the_second_takes_over_when_it_falls_silent() {
    let (mut server, start) = (Server::default(), Instant::now());
    let (mut one, mut two) = (candidate("one"), candidate("two"));
    server.round(&mut one, start);
    server.round(&mut two, start + ms(10));
    assert_eq!((one.leads(start), two.leads(start)), (Some(1), None));
    server.round(&mut one, start + ms(750));
    // The record changed: the time is counted anew from when that was seen.
    server.round(&mut two, start + ms(800));
    server.round(&mut two, start + ms(3_700));
    assert_eq!(two.leads(start + ms(3_700)), None);
    assert_eq!(one.leads(start + ms(3_250)), None, "it stopped by itself before");
    server.round(&mut two, start + ms(3_800));
    assert_eq!(two.leads(start + ms(3_800)), Some(2));
    assert_eq!(server.spec().holder_identity.as_deref(), Some("two"));
    assert_eq!(server.spec().lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_back_is_taken_at_once() {
    let (mut server, start) = (Server::default(), Instant::now());
    let (mut one, mut two) = (candidate("one"), candidate("two"));
    server.round(&mut one, start);
    server.round(&mut two, start);
    let released = one.release(Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(one.leads(start), None);
    server.write(Step::Replace(released)).unwrap();
    server.round(&mut two, start + ms(1));
    assert_eq!(two.leads(start + ms(1)), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_restart_under_the_same_name_goes_on_with_its_own_lease_in_a_new_term() {
    let (mut server, start) = (Server::default(), Instant::now());
    server.round(&mut candidate("one"), start);
    let mut again = candidate("one");
    server.round(&mut again, start + ms(1));
    // An order of the earlier process must not pass for an order of this one.
    assert_eq!(again.leads(start + ms(1)), Some(2));
    assert_eq!(server.spec().lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_term_outlasts_a_lost_answer_and_is_never_used_again() {
    let (mut server, start) = (Server::default(), Instant::now());
    let mut one = candidate("one");
    server.round(&mut one, start);
    let renewal = one.renewal(start + ms(750), Timestamp::UNIX_EPOCH).unwrap();
    server.write(Step::Replace(renewal)).unwrap();
    server.round(&mut one, start + ms(1_500));
    assert_eq!(one.leads(start + ms(1_500)), Some(1), "nobody else led in between");
    server.round(&mut one, start + ms(9_000));
    assert_eq!(one.leads(start + ms(9_000)), Some(2), "somebody else might have");
    server.stored = None;
    server.round(&mut one, start + ms(9_100));
    assert_eq!(one.leads(start + ms(9_100)), Some(3), "although the lease was deleted");
}

#[tokio::test(start_paused = true)]
async fn a_holder_renews_what_it_wrote_and_nothing_that_has_run_out() {
    let (mut server, start) = (Server::default(), Instant::now());
    let mut one = candidate("one");
    assert_eq!(one.renewal(start, Timestamp::UNIX_EPOCH), None);
    server.round(&mut one, start);
    let later = Timestamp::from_second(9).unwrap();
    let renewal = one.renewal(start + ms(750), later).unwrap();
    assert_eq!(renewal.spec.as_ref().unwrap().renew_time, Some(MicroTime(later)));
    assert!(server.write(Step::Replace(renewal)).is_some());
    // The answer was lost, so the version is old now: the API server refuses it.
    let stale = one.renewal(start + ms(1_500), later).unwrap();
    assert!(server.write(Step::Replace(stale)).is_none());
    assert_eq!(one.renewal(start + ms(2_500), later), None, "the lead has run out");
}

proptest! {
    /// Three candidates that look whenever they like, and whose requests take a while to arrive
    /// and to be answered, or never are.
    #[test]
    fn there_are_never_two_leaders(
        rounds in proptest::collection::vec((0_usize..3, 0_u64..1_500, 0_u64..400, 0_u8..6), 1..200)
    ) {
        let (mut server, start) = (Server::default(), Instant::now());
        let mut candidates: BTreeMap<usize, Candidate> =
            (0..3).map(|index| (index, candidate(&format!("candidate-{index}")))).collect();
        let mut now = start;
        for (index, pause, takes, fate) in rounds {
            now += ms(pause);
            let began = now;
            let candidate = candidates.get_mut(&index).unwrap();
            let step = server.ask(candidate, now);
            now += ms(takes);
            // One request in six never arrives, and one answer in six is lost.
            if fate > 0 && let Some(lease) = server.write(step) && fate > 1 {
                candidates.get_mut(&index).unwrap().acquired(lease, began);
            }
            let leaders = candidates.values().filter(|candidate| candidate.leads(now).is_some()).count();
            prop_assert!(leaders <= 1, "{leaders} lead");
        }
    }
}
