//! The text of an answer: the same for the same question, plainly a simulation, of any length.
//!
//! A token is a word with the space before it, which is near enough to a real tokenizer to test
//! with and easy to count by hand.

/// How every answer begins.
const OPENING: &str = "I am ebb-chat, a simulator: no language model is behind this answer.";

/// The sentence that follows the quoted question, over and over until the answer is long enough.
const FILLER: &str = "These words only take their time, as those of a real engine would.";

/// How much of the question is quoted, in words and in characters of each. It shows that the
/// request came through; more would make answers depend on their questions' length.
const QUOTED_WORDS_MAX: usize = 12;
const QUOTED_CHARS_MAX: usize = 32;

/// The words of one answer.
#[derive(Clone, Debug)]
pub struct ChatAnswer {
    opening: Vec<String>,
}

// === impl ChatAnswer ===

impl ChatAnswer {
    /// The answer to a question.
    pub fn to(question: &str) -> Self {
        let quoted: Vec<String> = question
            .split_whitespace()
            .take(QUOTED_WORDS_MAX)
            .map(|word| word.chars().take(QUOTED_CHARS_MAX).collect())
            .collect();
        let sentence = format!("{OPENING} You wrote: \"{}\".", quoted.join(" "));
        Self { opening: sentence.split_whitespace().map(str::to_owned).collect() }
    }

    /// The token at `index`; there is one at every index.
    pub fn token(&self, index: u32) -> String {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let word = self.opening.get(index).map_or_else(
            || {
                let beyond = index - self.opening.len();
                FILLER.split(' ').nth(beyond % FILLER.split(' ').count()).unwrap_or("")
            },
            String::as_str,
        );
        if index == 0 { word.to_owned() } else { format!(" {word}") }
    }

    /// The first `tokens` tokens as one text.
    pub fn text(&self, tokens: u32) -> String {
        (0..tokens).map(|index| self.token(index)).collect()
    }
}

/// Number of tokens in a text.
pub fn count(text: &str) -> u32 {
    u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_that_it_is_simulated_and_quotes_the_question() {
        let answer = ChatAnswer::to("How  are\nyou?");
        let begin = format!("{OPENING} You wrote: \"How are you?\". These words only");
        assert!(answer.text(40).starts_with(&begin), "{}", answer.text(40));
    }

    #[test]
    fn an_answer_has_exactly_the_tokens_asked_for() {
        for tokens in [1, 12, 13, 64, 1000] {
            assert_eq!(count(&ChatAnswer::to("a question").text(tokens)), tokens);
            assert_eq!(count(&ChatAnswer::to("").text(tokens)), tokens);
        }
    }

    #[test]
    fn a_long_question_is_quoted_in_part() {
        let answer = ChatAnswer::to(&"word ".repeat(10_000));
        assert_eq!(answer.opening.len(), count(OPENING) as usize + 2 + QUOTED_WORDS_MAX);
        let answer = ChatAnswer::to(&"é".repeat(10_000));
        assert!(answer.text(20).len() < 500);
    }
}
