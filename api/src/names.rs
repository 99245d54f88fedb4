//! Names of the objects that Ebb makes, and of the hosts that it serves.

use std::hash::Hasher as _;

use fnv::FnvHasher;

/// Longest DNS-1123 label, hence longest name of most objects.
pub const LABEL_CHARS_MAX: usize = 63;
/// Name of the port in a pod that requests go to.
pub const USER_PORT_NAME: &str = "user-port";
/// Port of a container that names none.
pub const DEFAULT_PORT: i32 = 8080;
/// Name of the container of a single-container revision that names none.
pub const DEFAULT_CONTAINER: &str = "user-container";

/// Name of the `generation`th Revision of a Configuration: `digits-00001`.
pub fn revision(configuration: &str, generation: i64) -> String {
    child(configuration, &format!("-{generation:05}"))
}

/// Name of a Revision's Deployment.
pub fn deployment(revision: &str) -> String {
    child(revision, "-deployment")
}

/// `parent` followed by `suffix`, cut and marked with a hash of the whole when it would be longer
/// than a label: two long parents that differ only at the end still get two names.
pub fn child(parent: &str, suffix: &str) -> String {
    let whole = format!("{parent}{suffix}");
    if whole.len() <= LABEL_CHARS_MAX {
        return whole;
    }
    let mark = format!("{:016x}", fnv1a(parent));
    let room = LABEL_CHARS_MAX.saturating_sub(mark.len() + suffix.len());
    let mut cut = parent.len().min(room);
    while !parent.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}{mark}{suffix}", &parent[..cut])
}

/// 64-bit FNV-1a: a name must be the same in every release, which std's hasher does not promise.
fn fnv1a(text: &str) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// Hosts inside the cluster of a route or tag: `name.ns`, `name.ns.svc` and the full one.
pub fn cluster_local_hosts(name: &str, namespace: &str, cluster_domain: &str) -> [String; 3] {
    [
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.{cluster_domain}"),
    ]
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

    /// Computed by another program from the definition of FNV-1a: an object of an earlier release
    /// must be found under its name.
    #[test]
    fn a_long_name_is_the_same_in_every_release() {
        assert_eq!(
            deployment(&format!("{}1", "a".repeat(62))),
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa51c2307b2aef1856-deployment"
        );
        assert_eq!(
            revision(&"x".repeat(60), 1),
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx14b1d92b2cf0af95-00001"
        );
    }
}
