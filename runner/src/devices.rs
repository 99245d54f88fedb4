//! The devices that a pod was given, by index: an annotation that whoever places pods writes, and the
//! variables by which libraries find them.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, Pod};

/// The annotation of a pod: `nvidia.com/gpu=0,1;example.com/slot=2`.
pub const DEVICES: &str = "serving.ebb.dev/devices";

/// The variables that name the devices of a resource to the libraries for it.
const VARIABLES: [(&str, &[&str]); 2] = [
    ("nvidia.com/gpu", &["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"]),
    // Not HIP_VISIBLE_DEVICES as well, which counts within what this one has left.
    ("amd.com/gpu", &["ROCR_VISIBLE_DEVICES"]),
];

/// Indices by resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices(pub BTreeMap<String, Vec<u64>>);

// === impl Devices ===

impl Devices {
    /// Those of a pod. What cannot be read is left out.
    pub fn of_pod(pod: &Pod) -> Self {
        let notes = pod.metadata.annotations.as_ref();
        let text = notes.and_then(|notes| notes.get(DEVICES)).map_or("", String::as_str);
        let read = |part: &str| {
            let (resource, indices) = part.split_once('=')?;
            let indices = indices.split(',').filter_map(|index| index.parse().ok()).collect();
            Some((resource.to_owned(), indices))
        };
        Self(text.split(';').filter_map(read).collect())
    }

    /// The indices of a resource.
    pub fn of(&self, resource: &str) -> &[u64] {
        self.0.get(resource).map_or(&[], Vec::as_slice)
    }

    /// The variables of one of the pod's containers: each has as many devices as it asks for, in the
    /// order of the containers.
    pub(crate) fn variables(pod: &Pod, container: &Container) -> BTreeMap<String, String> {
        let devices = Self::of_pod(pod);
        let mut variables = BTreeMap::new();
        for (resource, names) in VARIABLES {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let before = containers.take_while(|other| other.name != container.name);
            let skipped: usize = before.map(|other| asked(other, resource)).sum();
            let own = devices.of(resource).iter().skip(skipped).take(asked(container, resource));
            let own: Vec<_> = own.map(u64::to_string).collect();
            if !own.is_empty() {
                let text = own.join(",");
                variables.extend(names.iter().map(|name| ((*name).to_owned(), text.clone())));
            }
        }
        variables
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |(resource, indices): (&String, &Vec<u64>)| {
            let indices: Vec<_> = indices.iter().map(u64::to_string).collect();
            format!("{resource}={}", indices.join(","))
        };
        f.write_str(&self.0.iter().map(part).collect::<Vec<_>>().join(";"))
    }
}

/// How many devices a container asks for: whole ones, and as many in its requests as in its limits.
fn asked(container: &Container, resource: &str) -> usize {
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|resources| resources.limits.as_ref()?.get(resource));
    let requests = resources.and_then(|resources| resources.requests.as_ref()?.get(resource));
    limits.or(requests).and_then(|quantity| quantity.0.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_container_sees_its_own_devices() {
        let gpus = |name: &str, count: &str| json!({"name": name, "resources": {"limits": {"nvidia.com/gpu": count}}});
        let mut pod: Pod = serde_json::from_value(json!({
            "spec": {"containers": [gpus("a", "1"), {"name": "b"}, gpus("c", "2")]},
        }))
        .expect("a pod");
        let devices = Devices([("nvidia.com/gpu".to_owned(), vec![0, 2, 3])].into());
        pod.metadata.annotations = Some([(DEVICES.to_owned(), devices.to_string())].into());
        assert_eq!(Devices::of_pod(&pod), devices);
        let containers = pod.spec.clone().expect("a spec").containers;
        let seen = |index: usize| {
            let variables = Devices::variables(&pod, &containers[index]);
            variables.get("CUDA_VISIBLE_DEVICES").cloned()
        };
        assert_eq!(
            (seen(0).as_deref(), seen(1), seen(2).as_deref()),
            (Some("0"), None, Some("2,3"))
        );
        assert_eq!(Devices::of_pod(&Pod::default()), Devices::default());
    }
}
