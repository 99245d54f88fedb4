//! The differences that are meant, each with its reason. docs/api.md tells users of them.

use std::sync::LazyLock;

use parking_lot::Mutex;
use regex::Regex;

use crate::compare::Difference;

/// A difference that is meant.
struct ArguedDifference {
    /// Why the embedded API differs.
    reason: &'static str,
    /// Requests in which it may occur: a pattern for their line.
    request: &'static str,
    /// Pattern for the path of the difference.
    path: &'static str,
    /// Patterns for what the two say, as JSON.
    real: &'static str,
    embedded: &'static str,
}

const ARGUED: &[ArguedDifference] = &[
    ArguedDifference {
        reason: "Messages name fields, not the types and files of a Go program",
        request: "",
        path: r"message$",
        real: r"json: cannot unmarshal|pkg/runtime/scheme.go|Object 'Kind' is missing in",
        embedded: r"",
    },
    ArguedDifference {
        reason: "A patch whose result cannot be decoded is refused with the object's kind and name",
        request: "^PATCH",
        path: r"^body\.details\.(name|kind|group)$",
        real: "^null$",
        embedded: "",
    },
    ArguedDifference {
        reason: "A patch whose result cannot be decoded is shown, and not the whole object",
        request: "^PATCH",
        path: r"message$",
        real: r"patch: Invalid value|^.Invalid value: .*\{.*decoding error",
        embedded: r"patch: Invalid value|^.Invalid value: ",
    },
    ArguedDifference {
        reason: "What the client did wrong is a 400, also where the real server answers 500",
        request: "",
        path: "^code$",
        real: "^500$",
        embedded: "^4(00|09)$",
    },
    ArguedDifference {
        reason: "What the client did wrong is told in a sentence, where the real server has a 500",
        request: "",
        path: "^code: message$",
        real: "^.(unknown patch type|strconv.ParseUint|failed to create typed patch object)",
        embedded: "",
    },
    ArguedDifference {
        reason: "A JSON patch that does not fit is refused with what does not fit",
        request: "^PATCH",
        path: r"^body\.(message|details.*)$",
        real: r"^null$|^\{\}$|^.the server rejected our request due to an error in our request.$",
        embedded: r"",
    },
    ArguedDifference {
        reason: "An empty `details` of a Status is left out",
        request: "",
        path: r"^body\.details$",
        real: r"^\{\}$",
        embedded: "^null$",
    },
    ArguedDifference {
        reason: "A Service has no addresses: there is no network of a cluster",
        request: "/api/v1/.*/services",
        path: r"\.spec\.(clusterIPs|ipFamilies|ipFamilyPolicy)$",
        real: "",
        embedded: "^null$",
    },
    ArguedDifference {
        reason: "Quantities stay as they were written",
        request: "",
        path: r"\.resources\.(requests|limits)\.\w+$",
        real: "^.500m.$",
        embedded: "^.0.5.$",
    },
    ArguedDifference {
        reason: "Zero values of single fields of built-in kinds stay as they were written",
        request: "",
        path: r"\.((f:)?(value|message)|status\.replicas|f:status\.f:replicas)$",
        real: "^null$",
        embedded: r#"^(""|0|\{\})$"#,
    },
    ArguedDifference {
        reason: "An item of a list says its kind and version",
        request: "",
        path: r"^body\.items\[\d+\]\.(apiVersion|kind)$",
        real: "^null$",
        embedded: "",
    },
    ArguedDifference {
        reason: "A list has no empty `continue`",
        request: "",
        path: r"metadata\.continue$",
        real: r#"^""$"#,
        embedded: "^null$",
    },
    ArguedDifference {
        reason: "A list without items has an empty list of them, also of metadata alone",
        request: "",
        path: r"^body\.items$",
        real: "^null$",
        embedded: r"^\[\]$",
    },
    ArguedDifference {
        reason: "Only JSON is served",
        request: "text/html",
        path: r"^body\.message$",
        real: "application/vnd.kubernetes.protobuf",
        embedded: "",
    },
    ArguedDifference {
        reason: "Columns of tables have short descriptions",
        request: "as=Table",
        path: r"\.columnDefinitions\[\d+\]\.description$",
        real: "",
        embedded: "",
    },
    ArguedDifference {
        reason: "A UID that does not fit is told without the words of the store",
        request: "",
        path: "message$",
        real: "StorageError: invalid object, Code: 4.*Precondition failed: UID in precondition",
        embedded: "Precondition failed: UID in precondition",
    },
    ArguedDifference {
        reason: "A cause stands once",
        request: "",
        path: r"^body\.details\.causes$",
        real: r#"^\[\{"field":"metadata\..*\{"field":"metadata\."#,
        embedded: r#"^\[\{"field":"metadata\."#,
    },
    ArguedDifference {
        reason: "Every entry of managed fields has a time",
        request: "",
        path: r"\.managedFields\[\d+\]\.time$",
        real: "^null$",
        embedded: "a time",
    },
    ArguedDifference {
        reason: "A part of a custom object that nobody applies any more is gone, and not null",
        request: "apply-patch",
        path: r"^body\.(message|details\.causes.*)$",
        real: r"null",
        embedded: "Required",
    },
    ArguedDifference {
        reason: "A dry run of a PUT that would create shows no version",
        request: "^PUT.*dryRun",
        path: r"^body\.metadata\.resourceVersion$",
        real: "",
        embedded: "^null$",
    },
    ArguedDifference {
        reason: "`metadata.generation` is kept only of kinds that count it",
        request: "",
        path: r"metadata\.generation$",
        real: "^7$",
        embedded: "^null$",
    },
];

static PATTERNS: LazyLock<Vec<[Regex; 4]>> = LazyLock::new(|| {
    let pattern = |text| Regex::new(text).unwrap();
    let all = ARGUED.iter();
    all.map(|own| [own.request, own.path, own.real, own.embedded].map(pattern)).collect()
});
/// Which of them have occurred.
static USED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Drops the differences that are argued for. `request` is the line of the request.
pub(crate) fn without_argued(request: &str, mut found: Vec<Difference>) -> Vec<Difference> {
    found.retain(|found| {
        let texts = [
            request.to_owned(),
            found.path.clone(),
            found.real.to_string(),
            found.embedded.to_string(),
        ];
        let argued = PATTERNS.iter().position(|patterns| {
            patterns.iter().zip(&texts).all(|(pattern, text)| pattern.is_match(text))
        });
        USED.lock().extend(argued);
        argued.is_none()
    });
    found
}

/// The reasons of those that have not occurred.
pub(crate) fn unused() -> Vec<&'static str> {
    let used = USED.lock();
    let unused = ARGUED.iter().enumerate().filter(|(index, _)| !used.contains(index));
    unused.map(|(_, own)| own.reason).collect()
}
