//! Names of the objects that Ebb makes, and of the hosts that it serves.

use std::hash::Hasher as _;

use fnv::FnvHasher;
use md5::{Digest as _, Md5};

/// Longest DNS-1123 label, hence longest name of most objects.
pub const LABEL_CHARS_MAX: usize = 63;
/// Longest DNS-1123 subdomain, hence longest name of objects such as Secrets.
pub const SUBDOMAIN_CHARS_MAX: usize = 253;
/// What follows a Revision's name in that of its Deployment.
const DEPLOYMENT: &str = "-deployment";
/// Name of the port in a pod that requests go to.
pub const USER_PORT_NAME: &str = "user-port";
/// Port of a container that names none.
pub const DEFAULT_PORT: i32 = 8080;
/// Name of the container of a single-container revision that names none.
pub const DEFAULT_CONTAINER: &str = "user-container";
/// Name of an init container that has none.
pub const DEFAULT_INIT_CONTAINER: &str = "init-container";

/// Name of the `generation`th Revision of a Configuration: `digits-00001`.
pub fn revision(configuration: &str, generation: i64) -> String {
    child(configuration, &format!("-{generation:05}"))
}

/// Name of a Revision's Deployment.
pub fn deployment(revision: &str) -> String {
    child(revision, DEPLOYMENT)
}

/// The name that a release of Ebb before Knative's rule for long names gave to a Revision's Deployment,
/// where it is another one. A Deployment that has it keeps it: its pods run on.
pub fn earlier_deployment(revision: &str) -> Option<String> {
    let name = earlier_child(revision, DEPLOYMENT);
    (name != deployment(revision)).then_some(name)
}

/// `parent` followed by `suffix`, cut and marked with the MD5 of the parent when it would be longer
/// than a label: two long parents that differ only at the end still get two names. Programs made for
/// Knative look objects up by these names. Source: knative/pkg kmeta/names.go, `ChildName`, for
/// suffixes that are shorter than 31 bytes, as all of Ebb's are.
pub fn child(parent: &str, suffix: &str) -> String {
    if parent.len() + suffix.len() <= LABEL_CHARS_MAX {
        return format!("{parent}{suffix}");
    }
    let mark = u128::from_be_bytes(Md5::digest(parent.as_bytes()).into());
    marked(parent, &format!("{mark:032x}"), suffix)
}

/// The same by the rule of earlier releases, whose mark was another one.
fn earlier_child(parent: &str, suffix: &str) -> String {
    if parent.len() + suffix.len() <= LABEL_CHARS_MAX {
        return format!("{parent}{suffix}");
    }
    let mut hasher = FnvHasher::default();
    hasher.write(parent.as_bytes());
    marked(parent, &format!("{:016x}", hasher.finish()), suffix)
}

/// As much of `parent` as a label has room for, with what follows.
fn marked(parent: &str, mark: &str, suffix: &str) -> String {
    let room = LABEL_CHARS_MAX.saturating_sub(mark.len() + suffix.len());
    let mut cut = parent.len().min(room);
    while !parent.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}{mark}{suffix}", &parent[..cut])
}

/// Hosts inside the cluster of a route or tag: `name.ns`, `name.ns.svc` and the full one.
pub fn cluster_local_hosts(name: &str, namespace: &str, cluster_domain: &str) -> [String; 3] {
    [
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.{cluster_domain}"),
    ]
}

/// Whether Kubernetes takes it for the name of an object that may have dots, such as a Secret: a
/// DNS-1123 subdomain.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN_CHARS_MAX && text.split('.').all(is_label)
}

/// Whether it is `[a-z0-9]([-a-z0-9]*[a-z0-9])?`, whatever its length.
pub(crate) fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// First label of the host of a tag: `blue-digits`.
pub fn tag(tag: &str, route: &str) -> String {
    format!("{tag}-{route}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_named_after_its_configuration_and_generation() {
        assert_eq!(revision("digits", 1), "digits-00001");
        assert_eq!(deployment("digits-00001"), "digits-00001-deployment");
    }

    #[test]
    fn a_long_name_is_cut_to_a_label_and_stays_unique() {
        let one = deployment(&format!("{}1", "a".repeat(62)));
        let two = deployment(&format!("{}2", "a".repeat(62)));
        assert_eq!(one.len(), LABEL_CHARS_MAX);
        assert!(one.ends_with("-deployment"));
        assert_ne!(one, two);
    }

    /// Computed by another program from `ChildName`'s definition.
    #[test]
    fn a_long_name_is_the_one_that_knative_gives() {
        assert_eq!(
            deployment(&format!("{}1", "a".repeat(62))),
            "aaaaaaaaaaaaaaaaaaaa33719646b1dfcbe8559de545361b3397-deployment"
        );
        assert_eq!(
            revision(&"x".repeat(60), 1),
            "xxxxxxxxxxxxxxxxxxxxxxxxx1198000c11968f9368e02d6da57ec147-00001"
        );
        let longest_whole = "r".repeat(52);
        assert_eq!(deployment(&longest_whole), format!("{longest_whole}-deployment"));
        assert_eq!(earlier_deployment(&longest_whole), None);
    }

    /// Computed by another program from the definition of FNV-1a: an object of an earlier release
    /// must be found under its name.
    #[test]
    fn a_deployment_of_an_earlier_release_is_known_by_its_name() {
        assert_eq!(
            earlier_deployment(&format!("{}1", "a".repeat(62))).as_deref(),
            Some("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa51c2307b2aef1856-deployment")
        );
    }
}
