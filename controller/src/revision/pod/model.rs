//! The files of a model in its pods: `serving.ebb.dev/model`.
//!
//! An init container fetches them into a volume that the other containers see read-only. On a cluster
//! it is Ebb's own image, which writes to a folder of the pod or to a claim; in local mode it is the
//! program `ebb`, which writes to a cache of the machine.

use ebb_api::model_files::{FOLDER, ModelFiles, NAME, VARIABLE};
use ebb_api::model_source::ModelPlace;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvFromSource, EnvVar, HostPathVolumeSource,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, ResourceRequirements,
    SeccompProfile, SecretEnvSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{ClusterFetcher, LocalFetcher, ModelFetcher};

/// Where the init container of a cluster finds the volume. The files of a model are a folder of it, so
/// that a claim can hold several models.
const CACHE: &str = "/mnt/cache";
/// The account of Ebb's images (`deploy/images/layout.py`), whose group can write to a claim.
const ACCOUNT: i64 = 65_532;
/// Memory of the init container: buffers of four downloads, and the lists of a repository. Its limit
/// holds the page cache of what it writes, which the kernel gives back.
const MEMORY_REQUEST: &str = "64Mi";
const MEMORY_LIMIT: &str = "512Mi";
const CPU_REQUEST: &str = "100m";

/// Adds what fetches the files and shows them. `known` is the pod that the Deployment has: its init
/// container keeps image and arguments, so that neither an upgrade of Ebb nor another setting restarts
/// models.
///
/// # Errors
///
/// One sentence for the Revision's condition, if they cannot be fetched here.
pub(super) fn add(
    pod: &mut PodSpec,
    files: &ModelFiles,
    fetcher: Option<&ModelFetcher>,
    known: Option<&PodSpec>,
) -> Result<(), String> {
    let path = match (fetcher, &files.source.place) {
        (None, _) => return Err(NO_FETCHER.to_owned()),
        (Some(ModelFetcher::Cluster(_)), ModelPlace::File { .. }) => {
            return Err(NO_FILE.to_owned());
        }
        (Some(ModelFetcher::Cluster(fetcher)), _) => on_cluster(pod, files, fetcher, known),
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
        if !env.iter().any(|variable| variable.name == VARIABLE) {
            // The first one, so that the author's own variables can refer to it.
            let variable =
                EnvVar { name: VARIABLE.to_owned(), value: Some(path.clone()), value_from: None };
            env.insert(0, variable);
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
    known: Option<&PodSpec>,
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
    let mut args = vec![files.source.whole(), "--cache".to_owned(), CACHE.to_owned()];
    args.extend(allowed(&fetcher.networks));
    let mut init = Container {
        name: NAME.to_owned(),
        image: Some(fetcher.image.clone()),
        args: Some(args),
        resources: Some(resources()),
        security_context: Some(restricted()),
        volume_mounts: Some(vec![VolumeMount {
            name: NAME.to_owned(),
            mount_path: CACHE.to_owned(),
            ..VolumeMount::default()
        }]),
        ..fetching(files)
    };
    let known =
        known.and_then(|pod| pod.init_containers.as_ref()?.iter().find(|it| it.name == NAME));
    if let Some(known) = known
        && known.args.as_ref().and_then(|args| args.first())
            == init.args.as_ref().and_then(|args| args.first())
    {
        (init.image, init.args) = (known.image.clone(), known.args.clone());
    }
    pod.init_containers.get_or_insert_default().insert(0, init);
    show(pod, FOLDER, Some(&files.source.key()));
    files.path(FOLDER)
}

/// Into the cache of the machine; returns the path of the model.
fn in_local_mode(pod: &mut PodSpec, files: &ModelFiles, fetcher: &LocalFetcher) -> String {
    let cache = fetcher.cache.display().to_string();
    let mut args =
        vec!["fetch".to_owned(), files.source.whole(), "--cache".to_owned(), cache.clone()];
    args.extend(["--limit".to_owned(), fetcher.limit.to_string()]);
    args.extend(allowed(&fetcher.networks));
    let init = Container {
        name: NAME.to_owned(),
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
    Container {
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

fn resources() -> ResourceRequirements {
    let amount = |name: &str, text: &str| (name.to_owned(), Quantity(text.to_owned()));
    ResourceRequirements {
        requests: Some([amount("cpu", CPU_REQUEST), amount("memory", MEMORY_REQUEST)].into()),
        limits: Some([amount("memory", MEMORY_LIMIT)].into()),
        claims: None,
    }
}

#[cfg(test)]
mod tests;
