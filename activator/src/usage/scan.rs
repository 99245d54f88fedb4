//! A scanner of JSON that keeps nothing but what it looks for: numbers of tokens, and whether a text of
//! the answer is there.
//!
//! It believes that what it reads is JSON; of anything else it makes something or nothing, but never
//! holds more. Only the first [`PATH_MAX`] names of a path are known: what is looked for is not deeper.

use memchr::memchr2;

/// Names of a path that are told apart. `choices[0].delta.tool_calls[0].function.arguments` has 7.
const PATH_MAX: usize = 8;
/// Deepest nesting whose names are read. A client can have its own nesting sent back, before `usage`.
const DEPTH_MAX: u32 = u64::BITS;
/// Longest text that is read: names of events such as `response.function_call_arguments.delta`.
const WORD_MAX: usize = 64;

/// Most tokens that are believed of one answer: counters must not run over.
const TOKENS_MAX: u64 = 1 << 40;

/// The state of a scan.
#[derive(Debug)]
pub(crate) struct JsonScan {
    state: State,
    depth: u32,
    /// Levels below [`DEPTH_MAX`], which are counted and not told apart.
    deeper: u32,
    /// A bit for each level of nesting, the innermost last: 1 for an object.
    objects: u64,
    /// Whether the next text is a name.
    is_name: bool,
    /// The name at each level of nesting.
    path: [Word; PATH_MAX],
    /// The text that is being read, as far as it may be a word.
    word: [u8; WORD_MAX],
    word_bytes: usize,
    found: Scanned,
}

/// The tokens of one request and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    pub(crate) prompt: u64,
    pub(crate) completion: u64,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Scanned {
    /// The numbers of tokens; of several the last.
    pub(crate) usage: Usage,
    /// Whether there is a piece of the answer.
    pub(crate) has_piece: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between values, names and marks, or in a word such as `null`.
    Between,
    /// In a text, after a backslash if `is_escaped`.
    Text { is_escaped: bool },
    /// In a number; `None` once it is no whole number.
    Number(Option<u64>),
}

/// A name in an object that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Other,
    /// An element of a list.
    Element,
    Choices,
    Completion,
    Message,
    /// Has a piece of the answer, somewhere in `choices`.
    Piece,
    Prompt,
    Response,
    Type,
    Usage,
}

// === impl Usage ===

impl Usage {
    /// All tokens.
    pub(crate) const fn sum(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}

// === impl JsonScan ===

impl Default for JsonScan {
    fn default() -> Self {
        Self {
            state: State::Between,
            depth: 0,
            deeper: 0,
            objects: 0,
            is_name: false,
            path: [Word::Other; PATH_MAX],
            word: [0; WORD_MAX],
            word_bytes: 0,
            found: Scanned::default(),
        }
    }
}

impl JsonScan {
    /// What was found so far.
    pub(crate) const fn found(&self) -> Scanned {
        self.found
    }

    /// Begins with another object, and returns what was found; what the last one said of usage stays.
    pub(crate) fn restart(&mut self) -> Scanned {
        let found = self.found;
        let usage = found.usage;
        *self = Self { found: Scanned { usage, has_piece: false }, ..Self::default() };
        found
    }

    /// Reads a part.
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            rest = match self.state {
                State::Text { is_escaped: false } if !self.is_read() => self.pass(rest),
                State::Text { is_escaped } => {
                    self.in_text(byte, is_escaped);
                    after
                }
                State::Number(number) => {
                    self.in_number(byte, number);
                    after
                }
                State::Between => {
                    self.between(byte);
                    after
                }
            };
        }
    }

    /// Whether the text matters, byte for byte.
    fn is_read(&self) -> bool {
        self.is_name || self.here() == [Word::Type]
    }

    /// Passes over a text that does not matter; returns what is left from its end, or after a
    /// backslash.
    fn pass<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(end) = memchr2(b'"', b'\\', bytes) else {
            self.piece();
            return &[];
        };
        if end > 0 || bytes[end] == b'\\' {
            self.piece();
        }
        self.state = match bytes[end] {
            b'"' => State::Between,
            _ => State::Text { is_escaped: true },
        };
        &bytes[end + 1..]
    }

    fn in_text(&mut self, byte: u8, is_escaped: bool) {
        match byte {
            // No word that matters has an escape: with it this text is none.
            _ if is_escaped => {
                self.word_bytes = WORD_MAX + 1;
                self.state = State::Text { is_escaped: false };
            }
            b'\\' => self.state = State::Text { is_escaped: true },
            b'"' => {
                self.state = State::Between;
                self.end_of_word();
            }
            _ => {
                if let Some(place) = self.word.get_mut(self.word_bytes) {
                    *place = byte;
                }
                self.word_bytes = (self.word_bytes + 1).min(WORD_MAX + 1);
            }
        }
    }

    fn end_of_word(&mut self) {
        let word = self.word.get(..self.word_bytes).unwrap_or_default();
        if self.is_name {
            let name = Word::of(word);
            self.set_name(name);
        } else if word.ends_with(b".delta") || word == b"content_block_delta" {
            // An event of the responses API, or of Anthropic's messages.
            self.found.has_piece = true;
        }
    }

    fn in_number(&mut self, byte: u8, number: Option<u64>) {
        match byte {
            b'0'..=b'9' => {
                let digit = u64::from(byte - b'0');
                let longer = number.map(|number| number.saturating_mul(10).saturating_add(digit));
                self.state = State::Number(longer);
            }
            b'.' | b'e' | b'E' | b'+' | b'-' => self.state = State::Number(None),
            _ => {
                self.state = State::Between;
                if let Some(number) = number {
                    self.number(number);
                }
                self.between(byte);
            }
        }
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => self.enter(byte == b'{'),
            b'}' | b']' if self.deeper > 0 => self.deeper -= 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.objects >>= 1;
                self.is_name = false;
            }
            b',' => self.is_name = self.deeper == 0 && self.depth > 0 && self.objects & 1 == 1,
            b':' => self.is_name = false,
            b'"' => {
                self.word_bytes = 0;
                self.state = State::Text { is_escaped: false };
            }
            b'0'..=b'9' => self.state = State::Number(Some(u64::from(byte - b'0'))),
            b'-' => self.state = State::Number(None),
            _ => {}
        }
    }

    fn enter(&mut self, is_object: bool) {
        if self.depth == DEPTH_MAX {
            self.deeper = self.deeper.saturating_add(1);
            self.is_name = false;
            return;
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(is_object);
        self.is_name = is_object;
        self.set_name(if is_object { Word::Other } else { Word::Element });
    }

    fn set_name(&mut self, name: Word) {
        let place = usize::try_from(self.depth).ok().and_then(|depth| depth.checked_sub(1));
        if let Some(place) = place.and_then(|place| self.path.get_mut(place)) {
            *place = name;
        }
    }

    /// The path of the value here; empty where it is not known whole.
    fn here(&self) -> &[Word] {
        let depth = usize::try_from(self.depth).unwrap_or(usize::MAX);
        self.path.get(..depth).unwrap_or_default()
    }

    /// There is a text here that is not empty.
    fn piece(&mut self) {
        let path = self.here();
        if path.first() == Some(&Word::Choices) && path.last() == Some(&Word::Piece) {
            self.found.has_piece = true;
        }
    }

    /// There is a whole number here.
    fn number(&mut self, number: u64) {
        let ([Word::Usage, last] | [Word::Message | Word::Response, Word::Usage, last]) =
            *self.here()
        else {
            return;
        };
        let (usage, number) = (&mut self.found.usage, number.min(TOKENS_MAX));
        match last {
            Word::Prompt => usage.prompt = number,
            Word::Completion => usage.completion = number,
            _ => {}
        }
    }
}

// === impl Word ===

impl Word {
    fn of(name: &[u8]) -> Self {
        match name {
            b"choices" => Self::Choices,
            b"completion_tokens" | b"output_tokens" => Self::Completion,
            b"message" => Self::Message,
            b"content" | b"text" | b"reasoning" | b"reasoning_content" | b"refusal"
            | b"arguments" => Self::Piece,
            b"prompt_tokens" | b"input_tokens" => Self::Prompt,
            b"response" => Self::Response,
            b"type" => Self::Type,
            b"usage" => Self::Usage,
            _ => Self::Other,
        }
    }
}
