//! Rules of names, with the words of k8s.io/apimachinery/pkg/util/validation.

use crate::names::{LABEL_CHARS_MAX, SUBDOMAIN_CHARS_MAX, is_label};

/// What is wrong with a DNS-1035 label, such as the name of a Service; nothing if all is well.
pub(super) fn dns1035_label(text: &str) -> Vec<String> {
    let mut problems = too_long(text, LABEL_CHARS_MAX);
    if !(starts_lowercase(text) && is_label(text)) {
        problems.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start \
             with an alphabetic character, and end with an alphanumeric character (e.g. \
             'my-name',  or 'abc-123', regex used for validation is \
             '[a-z]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    problems
}

/// What is wrong with the beginning of a DNS-1035 label, which may end with a dash.
pub(super) fn dns1035_prefix(text: &str) -> Vec<String> {
    // As Kubernetes does: the dash stands for the characters that will follow it.
    match text.strip_suffix('-') {
        Some(front) if !front.is_empty() => dns1035_label(&format!("{front}a")),
        _ => dns1035_label(text),
    }
}

/// What is wrong with a DNS-1123 label, such as the name of a volume.
pub(super) fn dns1123_label(text: &str) -> Vec<String> {
    let mut problems = too_long(text, LABEL_CHARS_MAX);
    if !is_label(text) {
        problems.push(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
             '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
             '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    problems
}

/// What is wrong with a DNS-1123 subdomain, such as the name of a service account.
pub(super) fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut problems = too_long(text, SUBDOMAIN_CHARS_MAX);
    if !text.split('.').all(is_label) {
        problems.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character (e.g. \
             'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        );
    }
    problems
}

/// What is wrong with a qualified name: a name, perhaps with a DNS subdomain and a slash before.
pub(super) fn qualified_name(text: &str) -> Vec<String> {
    const RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
                        and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
                        '123-abc', regex used for validation is \
                        '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let mut problems = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        ["", name] => {
            problems.push("prefix part must be non-empty".to_owned());
            *name
        }
        [prefix, name] => {
            let wrong = dns1123_subdomain(prefix);
            problems.extend(wrong.into_iter().map(|rule| format!("prefix part {rule}")));
            *name
        }
        _ => {
            return vec![format!(
                "a qualified name {RULE} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else {
        let long = too_long(name, LABEL_CHARS_MAX);
        problems.extend(long.into_iter().map(|rule| format!("name part {rule}")));
    }
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !(is_edge(bytes.first()) && is_edge(bytes.last()) && bytes.iter().all(inner)) {
        problems.push(format!("name part {RULE}"));
    }
    problems
}

/// Problems as Go prints a list of them.
pub(super) fn bracketed(problems: &[String]) -> String {
    format!("[{}]", problems.join(" "))
}

fn too_long(text: &str, chars_max: usize) -> Vec<String> {
    if text.len() > chars_max {
        vec![format!("must be no more than {chars_max} characters")]
    } else {
        Vec::new()
    }
}

fn starts_lowercase(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_judged_as_kubernetes_judges_them() {
        for good in ["a", "a1", "a-b", "x".repeat(63).as_str()] {
            assert_eq!(dns1035_label(good), Vec::<String>::new(), "{good}");
        }
        for bad in ["", "1a", "-a", "a-", "A", "a.b", "a_b", "é"] {
            assert_eq!(dns1035_label(bad).len(), 1, "{bad:?}");
        }
        assert_eq!(dns1035_label(&"X".repeat(253)).len(), 2);
        assert!(dns1035_prefix("abc-").is_empty());
        assert!(!dns1035_prefix("-").is_empty());
        assert!(dns1123_label("1a").is_empty());
        assert!(dns1123_subdomain("a.b-c.1").is_empty());
        assert!(!dns1123_subdomain("a..b").is_empty());
    }

    #[test]
    fn qualified_names_may_have_a_prefix() {
        for good in ["a", "A_b.c", "example.com/Name", "autoscaling.internal/v1"] {
            assert_eq!(qualified_name(good), Vec::<String>::new(), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "-a", "a b"] {
            assert!(!qualified_name(bad).is_empty(), "{bad:?}");
        }
    }
}
