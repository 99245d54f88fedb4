//! The activator's end: from reports to lines.

use std::collections::HashMap;
use std::sync::Arc;

use super::{
    Cow, Entry, Kind, LINE_BYTES_AIM, Line, OrderId, PODS_MAX, Pods, REVISIONS_MAX, STREAM_PODS_MAX,
};
use crate::report::{Report, RevisionKey, RevisionReport, Scope};

/// Loads are sent in whole parts, of which this many make one request.
const PARTS: f64 = 10_000.0;

/// The sending end of one stream, with what the other end knows.
#[derive(Debug)]
pub struct Encoder {
    activator: String,
    lines: u64,
    /// Whether an interval report was sent.
    is_stated: bool,
    numbers: HashMap<RevisionKey, u32>,
    revisions: Vec<Option<Known>>,
    free: Vec<u32>,
    pods: usize,
    left_out: u64,
}

/// What the other end knows of one revision.
#[derive(Debug, Default)]
struct Known {
    obeyed: OrderId,
    /// Sorted by UID.
    pods: Pods,
    /// The number of the next pod.
    next: u32,
    /// Whether the next interval report has to name the revision, even if nothing has changed.
    is_due: bool,
    /// The last interval report that named the revision.
    seen: u64,
}

/// Pods to add and to remove.
#[derive(Default)]
struct Moves<'a> {
    add: Vec<Cow<'a, str>>,
    cut: Vec<u32>,
    /// Whether there was no room for some pods.
    is_short: bool,
}

// === impl Encoder ===

impl Encoder {
    /// The state at the beginning of this activator's stream.
    pub fn new(activator: &str) -> Self {
        Self {
            activator: activator.to_owned(),
            lines: 0,
            is_stated: false,
            numbers: HashMap::new(),
            revisions: Vec::new(),
            free: Vec::new(),
            pods: 0,
            left_out: 0,
        }
    }

    /// The number of the last line, which the other end will name in its answer.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// How often a revision was left out because [`REVISIONS_MAX`] others had a number.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The lines of a report, each with its newline. An interval report has to name everything that
    /// there is to say ([`Scope::Full`]); what the other end knows already is left out here.
    pub fn encode(&mut self, report: &Report) -> Vec<u8> {
        let mark = self.lines + 1;
        let mut out = Vec::new();
        let mut line = self.begin(report);
        let mut bytes = 0;
        for said in &report.revisions {
            let Some(entry) = self.entry(said, line.scope, mark) else {
                continue;
            };
            bytes += weight(&entry);
            line.revisions.push(entry);
            if bytes >= LINE_BYTES_AIM {
                let (scope, interval) = (line.scope, line.interval);
                line.more = true;
                self.end(line, &mut out);
                bytes = 0;
                line = Line { scope, interval, ..Line::default() };
            }
        }
        if line.scope != Kind::Moment {
            line.gone = self.forget(mark);
        }
        self.end(line, &mut out);
        out
    }

    fn begin<'a>(&mut self, report: &Report) -> Line<'a> {
        let scope = match report.scope {
            Scope::Moment => return Line { scope: Kind::Moment, ..Line::default() },
            Scope::Full | Scope::Changes if self.is_stated => Kind::Changes,
            Scope::Full | Scope::Changes => Kind::Full,
        };
        self.is_stated = true;
        // All revisions' intervals end together; that of a new revision is shorter.
        let longest = report.revisions.iter().map(|said| said.interval_s).fold(0.0, f64::max);
        Line { scope, interval: round(longest).max(1.0 / PARTS), ..Line::default() }
    }

    fn end(&mut self, mut line: Line<'_>, out: &mut Vec<u8>) {
        self.lines += 1;
        line.n = self.lines;
        line.known = self.numbers.len();
        line.activator = (self.lines == 1).then(|| Cow::Owned(self.activator.clone()));
        let written = serde_json::to_writer(&mut *out, &line);
        debug_assert!(written.is_ok(), "neither these types nor memory can fail");
        out.push(b'\n');
    }

    /// The entry of a revision; `None` if the other end knows it all, or if no number is left.
    fn entry<'a>(&mut self, said: &'a RevisionReport, scope: Kind, mark: u64) -> Option<Entry<'a>> {
        let Some((number, is_new)) = self.number(&said.revision) else {
            self.left_out += 1;
            return None;
        };
        let room = STREAM_PODS_MAX.saturating_sub(self.pods);
        let known = self.revisions.get_mut(index(number))?.as_mut()?;
        let before = known.pods.len();
        let Moves { add, cut, is_short } = known.follow(said, room);
        self.pods = self.pods + known.pods.len() - before;
        let obeyed = (known.obeyed != said.obeyed).then_some(said.obeyed);
        known.obeyed = said.obeyed;
        let rest = said.is_cut || is_short;
        let is_idle = is_idle(said);
        let is_same = !is_new && !known.is_due && add.is_empty() && cut.is_empty();
        // After a report of load, or of one moment, the next interval report says that the load is
        // over.
        known.is_due = scope == Kind::Moment || !is_idle || rest;
        if scope != Kind::Moment {
            known.seen = mark;
        }
        if scope == Kind::Changes && is_idle && is_same && obeyed.is_none() && !rest {
            return None;
        }
        let (busy, drain) = marks(&known.pods, said);
        Some(Entry {
            i: number,
            key: is_new.then(|| {
                let RevisionKey { namespace, name } = &said.revision;
                (Cow::Borrowed(namespace.as_str()), Cow::Borrowed(name.as_str()))
            }),
            c: round(said.concurrency_mean),
            r: round(said.requests_per_second),
            q: said.queued,
            o: obeyed.map(|OrderId { epoch, number }| (epoch, number)),
            add,
            cut,
            busy,
            drain,
            rest,
        })
    }

    /// The number of a revision, and whether it is a new one.
    fn number(&mut self, key: &RevisionKey) -> Option<(u32, bool)> {
        if let Some(number) = self.numbers.get(key) {
            return Some((*number, false));
        }
        if self.numbers.len() >= REVISIONS_MAX {
            return None;
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None => u32::try_from(self.revisions.len()).ok()?,
        };
        if index(number) == self.revisions.len() {
            self.revisions.push(None);
        }
        self.revisions[index(number)] = Some(Known::default());
        self.numbers.insert(key.clone(), number);
        Some((number, true))
    }

    /// Frees the numbers of revisions that the report of this mark did not name.
    fn forget(&mut self, mark: u64) -> Vec<u32> {
        let Self { numbers, revisions, free, pods, .. } = self;
        let mut gone = Vec::new();
        numbers.retain(|_, number| {
            let place = &mut revisions[index(*number)];
            let stays = place.as_ref().is_some_and(|known| known.seen == mark);
            if !stays {
                *pods -= place.take().map_or(0, |known| known.pods.len());
                gone.push(*number);
            }
            stays
        });
        gone.sort_unstable();
        free.extend(gone.iter().rev());
        gone
    }
}

// === impl Known ===

impl Known {
    /// Brings the known pods to those that the report names.
    fn follow<'a>(&mut self, said: &'a RevisionReport, room: usize) -> Moves<'a> {
        let is_same = self.pods.len() == said.pods.len()
            && self.pods.iter().zip(&said.pods).all(|((_, known), pod)| *known == pod.uid);
        if is_same {
            return Moves::default();
        }
        let mut named: Vec<&'a Arc<str>> = said.pods.iter().map(|pod| &pod.uid).collect();
        named.sort_unstable();
        named.dedup();
        let is_named = |uid: &Arc<str>| named.binary_search(&uid).is_ok();
        let gone = self.pods.extract_if(.., |(_, uid)| !is_named(uid));
        let mut cut: Vec<u32> = gone.map(|(number, _)| number).collect();
        cut.sort_unstable();
        let known = &self.pods;
        named.retain(|uid| known.binary_search_by(|(_, known)| known.cmp(uid)).is_err());
        let room = room.min(PODS_MAX.saturating_sub(self.pods.len()));
        let is_short = named.len() > room;
        named.truncate(room);
        for (uid, number) in named.iter().zip(self.next..) {
            self.pods.push((number, Arc::clone(uid)));
            self.next = number + 1;
        }
        self.pods.sort_unstable_by(|(_, a), (_, b)| a.cmp(b));
        let add = named.into_iter().map(|uid| Cow::Borrowed(&**uid)).collect();
        Moves { add, cut, is_short }
    }
}

/// The numbers of pods with something in flight, and of those that drain.
fn marks(known: &Pods, said: &RevisionReport) -> (Vec<(u32, u32)>, Vec<u32>) {
    let (mut busy, mut drain) = (Vec::new(), Vec::new());
    for pod in said.pods.iter().filter(|pod| pod.in_flight > 0 || pod.draining) {
        let Ok(place) = known.binary_search_by(|(_, uid)| uid.cmp(&pod.uid)) else {
            continue;
        };
        let number = known[place].0;
        if pod.in_flight > 0 {
            busy.push((number, pod.in_flight));
        }
        if pod.draining {
            drain.push(number);
        }
    }
    (busy, drain)
}

fn is_idle(said: &RevisionReport) -> bool {
    said.concurrency_mean <= 0.0
        && said.requests_per_second <= 0.0
        && said.queued == 0
        && said.pods.iter().all(|pod| pod.in_flight == 0)
}

/// A load rounded to whole [`PARTS`]. A load above zero never becomes zero: there was a request.
fn round(load: f64) -> f64 {
    let parts = (load * PARTS).round();
    let least = if load > 0.0 { 1.0 } else { 0.0 };
    parts.max(least) / PARTS
}

/// About how many bytes an entry takes.
fn weight(entry: &Entry<'_>) -> usize {
    let key = entry.key.as_ref().map_or(0, |(namespace, name)| namespace.len() + name.len() + 16);
    let pods: usize = entry.add.iter().map(|uid| uid.len() + 3).sum();
    64 + key + pods + 7 * (entry.cut.len() + entry.drain.len()) + 12 * entry.busy.len()
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
