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
        reason: "Messages name fields, and not the types and files of a Go program: there is none",
        request: "",
        path: r"message$",
        real: r"json: cannot unmarshal|pkg/runtime/scheme.go|Object 'Kind' is missing in",
        embedded: r"",
    },
    ArguedDifference {
        reason: "A patch whose result cannot be decoded is refused with the kind and name of the \
            object: the real server leaves them out, and people ask which one it was",
        request: "^PATCH",
        path: r"^body\.details\.(name|kind|group)$",
        real: "^null$",
        embedded: "",
    },
    ArguedDifference {
        reason: "Such a patch is shown as JSON in its refusal, where the real server shows a map of \
            Go or the whole object: people look for what they sent",
        request: "^PATCH",
        path: r"message$",
        real: r#"patch: Invalid value|^.Invalid value: (.*\{.*decoding error|\\"map\[)"#,
        embedded: r"patch: Invalid value|^.Invalid value: ",
    },
    ArguedDifference {
        reason: "What the client did wrong is a 400 or 409 where the real server answers 500: \
            clients try a 500 again",
        request: "",
        path: "^code$",
        real: "^500$",
        embedded: "^4(00|09)$",
    },
    ArguedDifference {
        reason: "Its message says what is wrong, where that of the real server's 500 shows maps of \
            Go: nobody should have to read them",
        request: "",
        path: "^code: message$",
        real: r"^.(unknown patch type|strconv.ParseUint|failed to create typed patch object|map: map\[|The order in patch)",
        embedded: "",
    },
    ArguedDifference {
        reason: "A JSON patch that does not fit is refused with the operation that does not: the \
            real server gives no reason at all",
        request: "^PATCH",
        path: r"^body\.(message|details.*)$",
        real: r"^null$|^\{\}$|^.the server rejected our request due to an error in our request.$",
        embedded: r"",
    },
    ArguedDifference {
        reason: "A Status has no empty `details`: it says nothing, and clients read both alike",
        request: "",
        path: r"^body\.details$",
        real: r"^\{\}$",
        embedded: "^null$",
    },
    ArguedDifference {
        reason: "A Service has no addresses and families of them: there is no network of a cluster",
        request: "/api/v1/.*/services",
        path: r"\.spec\.(clusterIPs|ipFamilies|ipFamilyPolicy)$",
        real: "",
        embedded: "^null$",
    },
    ArguedDifference {
        reason: "Quantities stay as they were written: only their value counts, and a rewritten one \
            would be another than the one that was applied",
        request: "",
        path: r"\.resources\.(requests|limits)\.\w+$",
        real: "^.500m.$",
        embedded: "^.0.5.$",
    },
    ArguedDifference {
        reason: "Zero values of single fields of built-in kinds stay as they were written: which of \
            them Go leaves out is a matter of its structs, not of the API",
        request: "",
        path: r"\.((f:)?(value|message)|status\.replicas|f:status\.f:replicas)$",
        real: "^null$",
        embedded: r#"^(""|0|\{\})$"#,
    },
    ArguedDifference {
        reason: "Items of lists say their kind and version: an object is stored as the bytes that it \
            is served as",
        request: "",
        path: r"^body\.items\[\d+\]\.(apiVersion|kind)$",
        real: "^null$",
        embedded: "",
    },
    ArguedDifference {
        reason: "A list has no empty `continue`: clients read both alike",
        request: "",
        path: r"metadata\.continue$",
        real: r#"^""$"#,
        embedded: "^null$",
    },
    ArguedDifference {
        reason: "A list of metadata without items has an empty list of them, and not null: some \
            clients fall over null",
        request: "",
        path: r"^body\.items$",
        real: "^null$",
        embedded: r"^\[\]$",
    },
    ArguedDifference {
        reason: "Only JSON is served, and the refusal of another form says so: no client of Ebb asks \
            for Protobuf alone",
        request: "text/html",
        path: r"^body\.message$",
        real: "application/vnd.kubernetes.protobuf",
        embedded: "",
    },
    ArguedDifference {
        reason: "Columns of tables have short descriptions: no client shows them",
        request: "as=Table",
        path: r"\.columnDefinitions\[\d+\]\.description$",
        real: "",
        embedded: "",
    },
    ArguedDifference {
        reason: "A UID that does not fit is told without the key in the store: there is no etcd",
        request: "",
        path: "message$",
        real: "StorageError: invalid object, Code: 4.*Precondition failed: UID in precondition",
        embedded: "Precondition failed: UID in precondition",
    },
    ArguedDifference {
        reason: "A cause stands once in a Status: the real server repeats those of metadata of some \
            kinds",
        request: "",
        path: r"^body\.details\.causes$",
        real: r#"^\[\{"field":"metadata\..*\{"field":"metadata\."#,
        embedded: r#"^\[\{"field":"metadata\."#,
    },
    ArguedDifference {
        reason: "Every entry of managed fields has a time: the real server leaves out that of a \
            number that was written through a scale",
        request: "",
        path: r"\.managedFields\[\d+\]\.time$",
        real: "^null$",
        embedded: "a time",
    },
    ArguedDifference {
        reason: "A part of a custom object that nobody applies any more is gone, and not null: a \
            null was written by nobody",
        request: "apply-patch",
        path: r"^body\.(message|details\.causes.*)$",
        real: "null|spec.template.spec|FieldValueTypeInvalid",
        embedded: "Required|spec.template.spec.containers",
    },
    ArguedDifference {
        reason: "A dry run that would create an object shows no version: the real server shows the \
            one that was sent, which the object would not get",
        request: "^(PUT|PATCH).*dryRun",
        path: r"^body\.(rows\[0\]\.object\.)?metadata\.resourceVersion$",
        real: r"^.(\d+|version of a list).$",
        embedded: "^null$",
    },
    ArguedDifference {
        reason: "A status of a custom kind that says another kind is refused: the real server takes \
            it, and loses the managed fields of the object",
        request: "^PUT /apis/serving.*/status.*Unheard",
        path: r"^code(: message)?$",
        real: "^(200|null)$",
        embedded: "^422$|must be ",
    },
    ArguedDifference {
        reason: "A scale of zero that is applied over zero is no conflict: nothing changes",
        request: "^PATCH .*/scale.*apply-patch",
        path: r"^code(: message)?$",
        real: r"^409$|\.spec\.replicas.$",
        embedded: "^(200|null)$",
    },
    ArguedDifference {
        reason: "The status of a Service that is not there is not found: the real server tries to \
            create the Service out of it, and says what is missing for that",
        request: r"^(PUT|PATCH) /api/v1/.*/services/\w+/status",
        path: r"^code(: message)?$",
        real: r"^(422|500)$|is invalid: .*spec\.|strconv.ParseUint",
        embedded: "^404$|not found.$",
    },
    ArguedDifference {
        reason: "`metadata.generation` is kept only of kinds that count it: one that a client made \
            up means nothing",
        request: "",
        path: r"metadata\.generation$",
        real: r"^\d+$",
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

/// All reasons.
pub(crate) fn reasons() -> impl Iterator<Item = &'static str> {
    ARGUED.iter().map(|own| own.reason)
}

/// The reasons of those that have not occurred.
pub(crate) fn unused() -> Vec<&'static str> {
    let used = USED.lock();
    let unused = ARGUED.iter().enumerate().filter(|(index, _)| !used.contains(index));
    unused.map(|(_, own)| own.reason).collect()
}
