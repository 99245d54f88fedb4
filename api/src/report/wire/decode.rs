//! The autoscaler's end: from lines to reports.

use std::sync::Arc;

use super::{
    Entry, INTERVAL_S_MAX, Kind, Line, NAME_CHARS_MAX, OrderId, PODS_MAX, Pods, REVISIONS_MAX,
    STREAM_PODS_MAX, WireError, is_key, is_uid, unreadable,
};
use crate::report::{PodReport, Report, RevisionKey, RevisionReport};

/// The receiving end of one stream, with what was said on it. After an error it must not be used
/// again: the stream is over.
#[derive(Debug, Default)]
pub struct Decoder {
    activator: Option<String>,
    lines: u64,
    revisions: Vec<Option<Known>>,
    known: usize,
    pods: usize,
    /// Counts the reports.
    reports: u64,
    /// The kind and the revisions of a report that goes on in the next line.
    begun: Option<(Kind, Vec<RevisionReport>)>,
}

#[derive(Debug)]
struct Known {
    key: RevisionKey,
    obeyed: OrderId,
    /// Sorted by number.
    pods: Pods,
    /// The number of the next pod.
    next: u32,
    /// The last report that named the revision.
    named: u64,
}

// === impl Decoder ===

impl Decoder {
    /// Name of the activator at the other end; `None` before the first line.
    pub fn activator(&self) -> Option<&str> {
        self.activator.as_deref()
    }

    /// Number of the last line.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Takes in a line; returns the report that the line completes, if any.
    ///
    /// # Errors
    ///
    /// An error for a line that is unreadable, that has a value without a meaning or beyond its
    /// bound, or that does not follow from the lines before.
    pub fn decode(&mut self, line: &str) -> Result<Option<Report>, WireError> {
        let line: Line<'_> = serde_json::from_str(line).map_err(|error| unreadable(&error))?;
        self.lines += 1;
        if line.n != self.lines {
            return Err(self.diverged("lines"));
        }
        let activator = self.introduce(&line)?;
        let Line { scope, more, interval, gone, known, revisions, .. } = line;
        if !(0.0..=INTERVAL_S_MAX).contains(&interval) {
            return Err(self.senseless("interval"));
        }
        // A number that is freed before the last line could be given again in the same report, with
        // as many pods each time.
        if more && !gone.is_empty() {
            return Err(self.senseless("gone"));
        }
        let (begun, mut said) = self.begun.take().unwrap_or((scope, Vec::new()));
        if begun != scope {
            return Err(self.senseless("scope"));
        }
        for entry in revisions {
            said.push(self.entry(&entry, interval)?);
        }
        for number in gone {
            said.push(self.forget(number, interval)?);
        }
        if self.known != known {
            return Err(self.diverged("revisions"));
        }
        // A report names each revision once, and once more if its number becomes free.
        if said.len() > 2 * REVISIONS_MAX {
            return Err(self.senseless("revisions"));
        }
        if more {
            self.begun = Some((scope, said));
            return Ok(None);
        }
        self.reports += 1;
        Ok(Some(Report { activator, scope: scope.into(), revisions: said }))
    }

    /// Name of the activator, which the first line must carry and no other may.
    fn introduce(&mut self, line: &Line<'_>) -> Result<String, WireError> {
        match (&self.activator, &line.activator) {
            (None, Some(name)) if (1..=NAME_CHARS_MAX).contains(&name.len()) => {
                self.activator = Some(name.to_string());
                Ok(name.to_string())
            }
            (Some(known), None) => Ok(known.clone()),
            _ => Err(self.senseless("activator")),
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, interval_s: f64) -> Result<RevisionReport, WireError> {
        let is_load = |load: f64| load.is_finite() && load >= 0.0;
        if !is_load(entry.c) || !is_load(entry.r) {
            return Err(self.senseless("load"));
        }
        let index = index(entry.i);
        if let Some((namespace, name)) = &entry.key {
            self.learn(index, namespace, name)?;
        }
        let (report, room) = (self.reports + 1, STREAM_PODS_MAX.saturating_sub(self.pods));
        let Some(known) = self.revisions.get_mut(index).and_then(Option::as_mut) else {
            return Err(self.diverged("revisions"));
        };
        let before = known.pods.len();
        let pods = known.follow(entry, report, room);
        self.pods = self.pods + known.pods.len() - before;
        let (revision, obeyed) = (known.key.clone(), known.obeyed);
        Ok(RevisionReport {
            revision,
            concurrency_mean: entry.c,
            requests_per_second: entry.r,
            queued: entry.q,
            interval_s,
            obeyed,
            pods: pods.map_err(|field| self.senseless(field))?,
            is_cut: entry.rest,
        })
    }

    fn learn(&mut self, index: usize, namespace: &str, name: &str) -> Result<(), WireError> {
        if index >= REVISIONS_MAX || !is_key(namespace, name) {
            return Err(self.senseless("revision"));
        }
        if self.revisions.len() <= index {
            self.revisions.resize_with(index + 1, || None);
        }
        if self.revisions[index].is_some() {
            return Err(self.diverged("revisions"));
        }
        self.revisions[index] = Some(Known {
            key: RevisionKey::new(namespace, name),
            obeyed: OrderId::default(),
            pods: Pods::new(),
            next: 0,
            named: 0,
        });
        self.known += 1;
        Ok(())
    }

    /// Frees the number of a revision, and reports the revision once more: without load or pods.
    fn forget(&mut self, number: u32, interval_s: f64) -> Result<RevisionReport, WireError> {
        let Some(known) = self.revisions.get_mut(index(number)).and_then(Option::take) else {
            return Err(self.diverged("revisions"));
        };
        self.known -= 1;
        self.pods -= known.pods.len();
        Ok(RevisionReport { revision: known.key, interval_s, ..RevisionReport::default() })
    }

    fn senseless(&self, field: &'static str) -> WireError {
        WireError::Senseless { line: self.lines, field }
    }

    fn diverged(&self, what: &'static str) -> WireError {
        WireError::Diverged { line: self.lines, what }
    }
}

// === impl Known ===

impl Known {
    /// Applies the revision's entry in the report of that number. Returns all pods as they are
    /// then, or the name of the field that makes no sense.
    fn follow(
        &mut self,
        entry: &Entry<'_>,
        report: u64,
        room: usize,
    ) -> Result<Vec<PodReport>, &'static str> {
        // Otherwise a line that names one revision with thousands of pods again and again would be
        // small on the wire but large in memory.
        if std::mem::replace(&mut self.named, report) == report {
            return Err("revisions");
        }
        if let Some((epoch, number)) = entry.o {
            self.obeyed = OrderId { epoch, number };
        }
        self.change_pods(entry, room)?;
        let idle = |(_, uid): &(u32, Arc<str>)| PodReport {
            uid: Arc::clone(uid),
            in_flight: 0,
            draining: false,
        };
        let mut pods: Vec<_> = self.pods.iter().map(idle).collect();
        for (number, in_flight) in &entry.busy {
            pods[self.find(*number)?].in_flight = *in_flight;
        }
        for number in &entry.drain {
            pods[self.find(*number)?].draining = true;
        }
        Ok(pods)
    }

    fn change_pods(&mut self, entry: &Entry<'_>, room: usize) -> Result<(), &'static str> {
        let mut cut = entry.cut.clone();
        cut.sort_unstable();
        let before = self.pods.len();
        self.pods.retain(|(number, _)| cut.binary_search(number).is_err());
        if before - self.pods.len() != cut.len() {
            return Err("pods");
        }
        let room = room.min(PODS_MAX.saturating_sub(self.pods.len()));
        if entry.add.len() > room || !entry.add.iter().all(|uid| is_uid(uid)) {
            return Err("pods");
        }
        for uid in &entry.add {
            self.pods.push((self.next, Arc::from(&**uid)));
            self.next = self.next.checked_add(1).ok_or("pods")?;
        }
        Ok(())
    }

    fn find(&self, number: u32) -> Result<usize, &'static str> {
        self.pods.binary_search_by_key(&number, |(known, _)| *known).map_err(|_| "pods")
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
