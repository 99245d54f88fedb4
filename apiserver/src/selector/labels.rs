//! Reads label selectors: `k8s.io/apimachinery/pkg/labels`, with its words for what cannot be read.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::vec::IntoIter;

use super::Requirement;
use crate::metadata;

/// What stands between words; the longer ones first.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];
const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

/// A piece of a selector.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A key, a value, or the words `in` and `notin`.
    Word(String),
    /// An operator, a comma or a parenthesis.
    Symbol(&'static str),
    /// The end.
    End,
}

/// What is left of a selector; behind its end there are only ends.
struct Reader {
    tokens: Peekable<IntoIter<Token>>,
}

/// Reads a selector.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut reader = Reader { tokens: tokens(text).into_iter().peekable() };
    let mut requirements = Vec::new();
    loop {
        match reader.next_is() {
            Token::End => return Ok(requirements),
            Token::Word(_) | Token::Symbol("!") => {}
            other @ Token::Symbol(_) => {
                let expected = "expected: !, identifier, or 'end of string'";
                return Err(format!("found '{}', {expected}", other.text()));
            }
        }
        let requirement = reader.requirement();
        let parsed = requirement.map_err(|error| format!("unable to parse requirement: {error}"));
        requirements.push(parsed?);
        match reader.take() {
            Token::End => return Ok(requirements),
            Token::Symbol(",") => {}
            other => {
                return Err(format!("found '{}', expected: ',' or 'end of string'", other.text()));
            }
        }
        if !matches!(reader.next_is(), Token::Word(_) | Token::Symbol("!")) {
            let found = reader.take();
            return Err(format!("found '{}', expected: identifier after ','", found.text()));
        }
    }
}

// === impl Token ===

impl Token {
    fn text(&self) -> String {
        match self {
            Self::Word(text) => text.clone(),
            Self::Symbol(text) => (*text).to_owned(),
            Self::End => String::new(),
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let is_symbol = |character: char| "=!(),><".contains(character);
    let is_space = |character: char| " \t\r\n".contains(character);
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol));
        let length = symbol.map_or_else(
            || rest.find(|own: char| is_symbol(own) || is_space(own)).unwrap_or(rest.len()),
            str::len,
        );
        let (token, behind) = rest.split_at(length);
        found.push(symbol.map_or_else(|| Token::Word(token.to_owned()), Token::Symbol));
        rest = behind.trim_start_matches(is_space);
    }
    found
}

// === impl Reader ===

impl Reader {
    fn next_is(&mut self) -> Token {
        self.tokens.peek().cloned().unwrap_or(Token::End)
    }

    fn take(&mut self) -> Token {
        self.tokens.next().unwrap_or(Token::End)
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut first = self.take();
        let absent = first == Token::Symbol("!");
        if absent {
            first = self.take();
        }
        let Token::Word(key) = first else {
            return Err(format!("found '{}', expected: identifier", first.text()));
        };
        if let Some(problem) = metadata::key_problems(&key).first() {
            return Err(format!("<nil>: Invalid value: {key:?}: {problem}"));
        }
        if absent {
            return Ok(Requirement::Absent(key));
        }
        if matches!(self.next_is(), Token::End | Token::Symbol(",")) {
            return Ok(Requirement::Exists(key));
        }
        let operator = self.take();
        let requirement = match operator.text().as_str() {
            "in" => Requirement::In(key, self.set()?),
            "notin" => Requirement::NotIn(key, self.set()?),
            "=" | "==" => Requirement::In(key, self.exact()?),
            "!=" => Requirement::NotIn(key, self.exact()?),
            ">" => Requirement::Above(key, self.number()?),
            "<" => Requirement::Below(key, self.number()?),
            found => return Err(format!("found '{found}', expected: {OPERATORS}")),
        };
        if let Requirement::In(key, values) | Requirement::NotIn(key, values) = &requirement {
            for (index, value) in values.iter().enumerate() {
                if let Some(problem) = metadata::value_problems(value).first() {
                    return Err(format!(
                        "values[{index}][{key}]: Invalid value: {value:?}: {problem}"
                    ));
                }
            }
        }
        Ok(requirement)
    }

    /// The values of `(a,b)`, of which none need say anything.
    fn set(&mut self) -> Result<BTreeSet<String>, String> {
        let open = self.take();
        if open != Token::Symbol("(") {
            return Err(format!("found '{}' expected: '('", open.text()));
        }
        let mut values = BTreeSet::new();
        loop {
            let value = match self.next_is() {
                Token::Word(value) => {
                    self.take();
                    value
                }
                Token::Symbol("," | ")") => String::new(),
                other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
            };
            values.insert(value);
            match self.take() {
                Token::Symbol(")") => return Ok(values),
                Token::Symbol(",") => {}
                other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
            }
        }
    }

    fn exact(&mut self) -> Result<BTreeSet<String>, String> {
        if matches!(self.next_is(), Token::End | Token::Symbol(",")) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.take() {
            Token::Word(value) => Ok(BTreeSet::from([value])),
            other => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    fn number(&mut self) -> Result<i64, String> {
        let value = self.exact()?.pop_first().unwrap_or_default();
        value.parse().map_err(|_| {
            format!(
                "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be \
                 an integer"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_in_the_words_of_the_real_server() {
        let expected = [
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("app=not a", "found 'a', expected: ',' or 'end of string'"),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("app in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("app in a", "unable to parse requirement: found 'a' expected: '('"),
            ("app=a,", "found '', expected: identifier after ','"),
            (
                "/a",
                "unable to parse requirement: <nil>: Invalid value: \"/a\": prefix part must be non-empty",
            ),
        ];
        for (selector, message) in expected {
            assert_eq!(parse(selector).unwrap_err(), message, "{selector}");
        }
        assert!(parse("app>x").unwrap_err().contains("must be an integer"));
        assert!(parse("app=-").unwrap_err().starts_with("unable to parse requirement: values[0]"));
    }

    #[test]
    fn a_set_may_have_empty_values() {
        let values = |list: &[&str]| list.iter().map(|own| (*own).to_owned()).collect();
        for (selector, list) in [("x in ()", &[""][..]), ("x in (a,,b)", &["", "a", "b"])] {
            assert_eq!(parse(selector), Ok(vec![Requirement::In("x".into(), values(list))]));
        }
        assert_eq!(parse("in in (in)"), Ok(vec![Requirement::In("in".into(), values(&["in"]))]));
    }
}
