//! The files of a model in its pods: `serving.ebb.dev/model`.
//!
//! An init container fetches them into a volume that the other containers see read-only. On a cluster
//! it is Ebb's own image, which writes to a folder of the pod or to a claim; in local mode it is the
//! program `ebb`, which writes to a cache of the machine.

use std::collections::BTreeMap;

use ebb_api::model_files::{FOLDER, LOG_VARIABLE, ModelFiles, NAME, SOURCE_VARIABLE, VARIABLE};
use ebb_api::model_source::ModelPlace;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvFromSource, HostPathVolumeSource,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, ResourceRequirements,
    SeccompProfile, SecretEnvSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::variable;
use crate::{ClusterFetcher, LocalFetcher, ModelFetcher};

/// Where the init container of a cluster finds the volume. The files of a model are a folder of it, so
/// that a claim can hold several models.
const CACHE: &str = "/mnt/cache";
/// The account of Ebb's images (`deploy/images/layout.py`), whose group can write to a claim.
const ACCOUNT: i64 = 65_532;
/// Where Kubernetes looks for the reason of a container's end.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Adds what fetches the files and shows them. `running` is the pod of a Deployment that has replicas:
/// its init container keeps image and arguments, so that neither an upgrade of Ebb nor another setting
/// restarts models. One without replicas gets those of today.
///
/// # Errors
///
/// One sentence for the Revision's condition, if they cannot be fetched here.
pub(super) fn add(
    pod: &mut PodSpec,
    files: &ModelFiles,
    fetcher: Option<&ModelFetcher>,
    running: Option<&PodSpec>,
) -> Result<(), String> {
    let path = match (fetcher, &files.source.place) {
        (None, _) => return Err(NO_FETCHER.to_owned()),
        (Some(ModelFetcher::Cluster(_)), ModelPlace::File { .. }) => {
            return Err(NO_FILE.to_owned());
        }
        (Some(ModelFetcher::Cluster(fetcher)), _) => on_cluster(pod, files, fetcher, running),
        (Some(ModelFetcher::Local(_)), _) if files.cache.is_some() => {
            return Err(NO_CLAIM.to_owned());
        }
        (Some(ModelFetcher::Local(fetcher)), ModelPlace::File { path }) => {
            of_this_machine(pod, files, fetcher, path)
        }
        (Some(ModelFetcher::Local(fetcher)), _) => in_local_mode(pod, files, fetcher),
    };
    for container in &mut pod.containers {
        let env = container.env.get_or_insert_default();
        if !env.iter().any(|known| known.name == VARIABLE) {
            // The first one, so that the author's own variables can refer to it.
            env.insert(0, variable(VARIABLE, path.clone()));
        }
    }
    Ok(())
}

const NO_FETCHER: &str = "serving.ebb.dev/model needs the image of ebb-fetch, which this controller was \
                          not told: set --fetch-image, or install Ebb by its chart";
const NO_FILE: &str = "serving.ebb.dev/model: file: is for local mode: on a cluster mount a volume, or name \
                       the model by hf://, https:// or s3://";
const NO_CLAIM: &str = "serving.ebb.dev/model-cache names a PersistentVolumeClaim, which local mode has not: \
                        leave it out, since local mode keeps every model in --models";

/// Into a folder of the pod, or into a claim; returns the path of the model.
fn on_cluster(
    pod: &mut PodSpec,
    files: &ModelFiles,
    fetcher: &ClusterFetcher,
    running: Option<&PodSpec>,
) -> String {
    let mut volume = Volume { name: NAME.to_owned(), ..Volume::default() };
    match &files.cache {
        Some(claim) => {
            volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.clone(),
                read_only: None,
            });
            let context = pod.security_context.get_or_insert_default();
            share(context);
        }
        None => volume.empty_dir = Some(EmptyDirVolumeSource::default()),
    }
    pod.volumes.get_or_insert_default().push(volume);
    let mut args = vec!["--cache".to_owned(), CACHE.to_owned()];
    args.extend(["--key".to_owned(), files.source.key()]);
    args.extend(allowed(&fetcher.networks));
    let mut init = Container {
        image: Some(fetcher.image.clone()),
        args: Some(args),
        resources: resources(pod),
        security_context: Some(restricted()),
        volume_mounts: Some(vec![VolumeMount {
            name: NAME.to_owned(),
            mount_path: CACHE.to_owned(),
            ..VolumeMount::default()
        }]),
        ..fetching(files)
    };
    init.env.get_or_insert_default().push(variable(LOG_VARIABLE, TERMINATION_LOG.to_owned()));
    let known = running.and_then(|pod| {
        pod.init_containers
            .iter()
            .flatten()
            .find(|known| known.name == NAME && known.env == init.env)
    });
    if let Some(known) = known {
        (init.image, init.args) = (known.image.clone(), known.args.clone());
    }
    pod.init_containers.get_or_insert_default().insert(0, init);
    show(pod, FOLDER, Some(&files.source.key()));
    files.path(FOLDER)
}

/// Into the cache of the machine; returns the path of the model.
fn in_local_mode(pod: &mut PodSpec, files: &ModelFiles, fetcher: &LocalFetcher) -> String {
    let cache = fetcher.cache.display().to_string();
    let mut args = vec!["fetch".to_owned(), "--cache".to_owned(), cache.clone()];
    args.extend(["--key".to_owned(), files.source.key()]);
    args.extend(["--limit".to_owned(), fetcher.limit.to_string()]);
    args.extend(allowed(&fetcher.networks));
    let init = Container {
        image: Some("ebb".to_owned()),
        command: Some(vec![fetcher.program.display().to_string()]),
        args: Some(args),
        ..fetching(files)
    };
    pod.init_containers.get_or_insert_default().insert(0, init);
    let folder = format!("{cache}/{}", files.source.key());
    if !fetcher.can_mount {
        return files.path(&folder);
    }
    host(pod, folder);
    show(pod, FOLDER, None);
    files.path(FOLDER)
}

/// Files that are here already; returns the path of the model.
fn of_this_machine(
    pod: &mut PodSpec,
    files: &ModelFiles,
    fetcher: &LocalFetcher,
    path: &str,
) -> String {
    if !fetcher.can_mount {
        return path.to_owned();
    }
    host(pod, path.to_owned());
    let shown = files.path(FOLDER);
    show(pod, &shown, None);
    shown
}

/// What the init container has wherever it runs.
fn fetching(files: &ModelFiles) -> Container {
    let secret = files.secret.clone().map(|name| EnvFromSource {
        secret_ref: Some(SecretEnvSource { name, optional: None }),
        ..EnvFromSource::default()
    });
    // Kubernetes would put other variables in the place of `$(NAME)`, which a URL may hold. Not an
    // argument: every user of a machine reads those, and a URL may be signed.
    let source = files.source.whole().replace('$', "$$");
    Container {
        name: NAME.to_owned(),
        env: Some(vec![variable(SOURCE_VARIABLE, source)]),
        env_from: secret.map(|secret| vec![secret]),
        // The last line says why the files cannot be fetched.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn allowed(networks: &[String]) -> impl Iterator<Item = String> {
    networks.iter().flat_map(|network| ["--allow-network".to_owned(), network.clone()])
}

fn host(pod: &mut PodSpec, path: String) {
    pod.volumes.get_or_insert_default().push(Volume {
        name: NAME.to_owned(),
        host_path: Some(HostPathVolumeSource { path, type_: None }),
        ..Volume::default()
    });
}

/// Mounts the files, read-only, in every container but the init containers.
fn show(pod: &mut PodSpec, mount_path: &str, sub_path: Option<&str>) {
    for container in &mut pod.containers {
        container.volume_mounts.get_or_insert_default().push(VolumeMount {
            name: NAME.to_owned(),
            mount_path: mount_path.to_owned(),
            sub_path: sub_path.map(str::to_owned),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
}

/// Lets the account of the init container write to a claim, which belongs to root on most storage.
fn share(context: &mut PodSecurityContext) {
    if context.fs_group.is_none() {
        context.fs_group = Some(ACCOUNT);
        // Not at every start: a change of owner walks through all files.
        context.fs_group_change_policy.get_or_insert_with(|| "OnRootMismatch".to_owned());
    }
}

/// What Pod Security `restricted` asks for.
fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: Some(ACCOUNT),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..SecurityContext::default()
    }
}

/// Processor and memory of the first container: a quota that takes the model takes the init container,
/// which runs before it, and a pod that is Guaranteed stays so.
fn resources(pod: &PodSpec) -> Option<ResourceRequirements> {
    let of_model = pod.containers.first()?.resources.as_ref()?;
    let common = |amounts: &Option<BTreeMap<String, Quantity>>| {
        let mut amounts = amounts.clone()?;
        amounts.retain(|resource, _| ["cpu", "memory"].contains(&resource.as_str()));
        Some(amounts)
    };
    let (requests, limits) = (common(&of_model.requests), common(&of_model.limits));
    Some(ResourceRequirements { requests, limits, claims: None })
}

#[cfg(test)]
mod tests;
