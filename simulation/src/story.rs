//! What happened in a world, in sentences, and a digest of it that is equal for equal runs.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// Most sentences that are kept: a world that goes wrong may say the same for ever.
const SENTENCES_MAX: usize = 20_000;
/// Most broken rules that are kept; the first one is what matters.
const BROKEN_MAX: usize = 20;

/// The story of one world. Cheap to clone; clones tell the same story.
#[derive(Clone, Default)]
pub(crate) struct Story {
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    sentences: Vec<(Duration, String)>,
    broken: Vec<Broken>,
    /// FNV-1a over everything that was told and traced.
    digest: u64,
    /// Things that were told or traced.
    count: u64,
    /// Whether traces are printed as they come.
    is_loud: bool,
}

/// A rule that was broken.
#[derive(Clone)]
pub(crate) struct Broken {
    pub(crate) at: Duration,
    /// The rule, as `invariants` names it.
    pub(crate) rule: &'static str,
    pub(crate) how: String,
}

impl Story {
    /// A story whose traces are printed at once, for a look at one seed.
    pub(crate) fn loud() -> Self {
        let story = Self::default();
        story.told.lock().is_loud = true;
        story
    }

    /// A sentence for the reader.
    pub(crate) fn tell(&self, sentence: impl Into<String>) {
        let (at, sentence) = (ebb_clockwork::elapsed(), sentence.into());
        let mut told = self.told.lock();
        told.note(at, &sentence);
        if told.sentences.len() < SENTENCES_MAX {
            told.sentences.push((at, sentence));
        }
    }

    /// A detail that counts for the digest alone.
    pub(crate) fn trace(&self, detail: &str) {
        self.told.lock().note(ebb_clockwork::elapsed(), detail);
    }

    /// A broken rule.
    pub(crate) fn blame(&self, rule: &'static str, how: impl Into<String>) {
        let (at, how) = (ebb_clockwork::elapsed(), how.into());
        self.tell(format!("BROKEN: {rule}: {how}"));
        let mut told = self.told.lock();
        if told.broken.len() < BROKEN_MAX {
            told.broken.push(Broken { at, rule, how });
        }
    }

    /// The rules that were broken, first to last.
    pub(crate) fn broken(&self) -> Vec<Broken> {
        self.told.lock().broken.clone()
    }

    /// A number that is equal for equal stories, and how much it stands for.
    pub(crate) fn digest(&self) -> (u64, u64) {
        let told = self.told.lock();
        (told.digest, told.count)
    }

    /// All sentences, one a line.
    pub(crate) fn text(&self) -> String {
        let told = self.told.lock();
        let mut text = String::new();
        for (at, sentence) in &told.sentences {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{:>9.3} s  {sentence}", at.as_secs_f64());
        }
        text
    }
}

impl Told {
    fn note(&mut self, at: Duration, text: &str) {
        let micros = at.as_micros();
        if self.is_loud {
            tracing::info!(target: "story", "{text}");
        }
        if self.count == 0 {
            self.digest = 0xcbf2_9ce4_8422_2325;
        }
        self.count += 1;
        let bytes = micros.to_le_bytes();
        for byte in bytes.iter().chain(text.as_bytes()) {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
