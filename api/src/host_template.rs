//! Templates of hosts, as `domain-template` in `config-network` has them: the part of Go's templates that
//! such a template needs. The crates for the whole language are not kept up, and its loops and functions
//! would let a setting run code for each Route.

use std::collections::BTreeMap;

/// Longest template; a host has 253 characters at the most.
const CHARS_MAX: usize = 1000;

/// A template of a host: text, and fields in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Name,
    Namespace,
    Domain,
    Annotation(String),
    Label(String),
}

/// What the fields of a template stand for.
#[derive(Clone, Copy, Debug)]
pub struct HostFields<'a> {
    /// `{{.Name}}`: the name of the Route, with that of the tag before it if the host is a tag's.
    pub name: &'a str,
    /// `{{.Namespace}}`.
    pub namespace: &'a str,
    /// `{{.Domain}}`: of `config-domain`.
    pub domain: &'a str,
    /// `{{index .Annotations "KEY"}}` of the Route; nothing if it has no such annotation.
    pub annotations: &'a BTreeMap<String, String>,
    /// `{{index .Labels "KEY"}}` of the Route.
    pub labels: &'a BTreeMap<String, String>,
}

// === impl HostTemplate ===

impl Default for HostTemplate {
    /// `{{.Name}}.{{.Namespace}}.{{.Domain}}`
    fn default() -> Self {
        let dot = || Part::Text(".".to_owned());
        Self(vec![Part::Name, dot(), Part::Namespace, dot(), Part::Domain])
    }
}

impl HostTemplate {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// What it must be, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > CHARS_MAX {
            return Err(format!("must have {CHARS_MAX} characters or fewer"));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (field, after) = after
                .split_once("}}")
                .ok_or_else(|| "must close with }} each field that it opens".to_owned())?;
            parts.extend(
                Some(before).filter(|it| !it.is_empty()).map(|it| Part::Text(it.to_owned())),
            );
            parts.push(Part::read(field)?);
            rest = after;
        }
        parts.extend(Some(rest).filter(|it| !it.is_empty()).map(|it| Part::Text(it.to_owned())));
        let template = Self(parts);
        if [Part::Name, Part::Namespace].iter().any(|part| !template.0.contains(part)) {
            // Otherwise all Routes of a name want one host, and only one of them gets it.
            let wanted =
                "must have {{.Name}} and {{.Namespace}}, so that Routes have hosts of their own";
            return Err(wanted.to_owned());
        }
        Ok(template)
    }

    /// The host. It may be none that is allowed: annotations may have anything.
    pub fn fill(&self, fields: HostFields<'_>) -> String {
        let of = |map: &'_ BTreeMap<String, String>, key: &String| {
            map.get(key).cloned().unwrap_or_default()
        };
        let fill = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Name => fields.name.to_owned(),
            Part::Namespace => fields.namespace.to_owned(),
            Part::Domain => fields.domain.to_owned(),
            Part::Annotation(key) => of(fields.annotations, key),
            Part::Label(key) => of(fields.labels, key),
        };
        self.0.iter().map(fill).collect()
    }
}

// === impl Part ===

impl Part {
    fn read(field: &str) -> Result<Self, String> {
        let words: Vec<_> = field.split_whitespace().collect();
        match words[..] {
            [".Name"] => return Ok(Self::Name),
            [".Namespace"] => return Ok(Self::Namespace),
            [".Domain"] => return Ok(Self::Domain),
            ["index", map, key] => {
                let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
                match (map, key.filter(|key| !key.contains(['"', '\\']))) {
                    (".Annotations", Some(key)) => return Ok(Self::Annotation(key.to_owned())),
                    (".Labels", Some(key)) => return Ok(Self::Label(key.to_owned())),
                    _ => {}
                }
            }
            _ => {}
        }
        Err(format!(
            "has {{{{{field}}}}}, and may have {{{{.Name}}}}, {{{{.Namespace}}}}, {{{{.Domain}}}}, \
             {{{{index .Annotations \"KEY\"}}}} and {{{{index .Labels \"KEY\"}}}}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> String {
        let annotations = [("sub".to_owned(), "eu".to_owned())].into();
        let labels = [("example.com/team".to_owned(), "red".to_owned())].into();
        let fields = HostFields {
            name: "digits",
            namespace: "ml",
            domain: "example.com",
            annotations: &annotations,
            labels: &labels,
        };
        HostTemplate::parse(template).unwrap().fill(fields)
    }

    #[test]
    fn fields_stand_for_what_the_route_has() {
        for (template, host) in [
            ("{{.Name}}.{{.Namespace}}.{{.Domain}}", "digits.ml.example.com"),
            ("{{ .Name }}-{{.Namespace}}.{{.Domain}}", "digits-ml.example.com"),
            ("{{.Name}}.{{.Namespace}}.apps.test", "digits.ml.apps.test"),
            (
                "{{.Name}}.{{index .Annotations \"sub\"}}.{{.Namespace}}.{{.Domain}}",
                "digits.eu.ml.example.com",
            ),
            (
                "{{index .Labels \"example.com/team\"}}-{{.Name}}-{{.Namespace}}.{{.Domain}}",
                "red-digits-ml.example.com",
            ),
            ("{{.Name}}{{index .Labels \"none\"}}.{{.Namespace}}", "digits.ml"),
        ] {
            assert_eq!(filled(template), host);
        }
        let default = HostTemplate::parse("{{.Name}}.{{.Namespace}}.{{.Domain}}");
        assert_eq!(default, Ok(HostTemplate::default()));
    }

    #[test]
    fn what_cannot_be_filled_is_refused_with_what_could() {
        for (template, told) in [
            ("{{.Name}}.{{.Domain}}", "must have {{.Name}} and {{.Namespace}}"),
            ("{{.Name}}.{{.Namespace", "must close with }}"),
            (
                "{{.Name}}.{{.Namespace}}.{{if .Domain}}",
                "has {{if .Domain}}, and may have {{.Name}}, ",
            ),
            (
                "{{.Name}}.{{.Namespace}}.{{index .Annotations sub}}",
                "has {{index .Annotations sub}}",
            ),
            ("{{.Name}}.{{.Namespace}}.{{.Tag}}", "has {{.Tag}}"),
            (&"x".repeat(1001), "must have 1000 characters or fewer"),
        ] {
            let said = HostTemplate::parse(template).unwrap_err();
            assert!(said.starts_with(told), "{said}");
        }
    }
}
