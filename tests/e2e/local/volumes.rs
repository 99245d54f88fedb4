//! Volumes of programs: what they hold, where they are seen, and that nothing is left of them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use ebb_tests::binaries::binary;
use ebb_tests::ebb::Ebb;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::{QUICK, service};
use tempfile::TempDir;
use tokio::process::Command;

use crate::bad_input::broken;

/// Allows what Knative refuses by default.
const FEATURES: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: config-features, namespace: knative-serving}
data: {kubernetes.podspec-volumes-hostpath: enabled}
";

/// A Service whose program does `script` and then serves.
fn scripted(name: &str, script: &str, mounts: &str, volumes: &str) -> String {
    let backend = binary("ebb-backend");
    let script = format!("{script}; exec {}", backend.display());
    let container = format!("volumeMounts: [{mounts}], image: ");
    let volumes = format!("volumes: [{volumes}]");
    service(name, "/bin/sh", &["-c", &script], "", &volumes).replace("image: ", &container)
}

/// What the containers of a service have said.
async fn said(kubectl: &Kubectl, service: &str) -> anyhow::Result<String> {
    let selector = format!("serving.knative.dev/service={service}");
    kubectl.ok(&["logs", "-l", &selector, "--tail=-1"]).await
}

#[tokio::test]
async fn a_program_sees_its_volumes_at_their_paths() -> anyhow::Result<()> {
    sees_its_volumes(Ebb::start_quick().await?).await
}

/// As an ordinary user, who may mount only in a namespace of users.
#[tokio::test]
async fn a_program_sees_them_too_where_ebb_may_not_mount() -> anyhow::Result<()> {
    let folder = Arc::new(TempDir::with_prefix("ebb-test-")?);
    let ebb = Ebb::start_wrapped(folder, &[], |command| {
        if !nix::unistd::geteuid().is_root() {
            return copy_of(command, "env", &[]);
        }
        copy_of(command, "setpriv", &["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"])
    })
    .await?;
    ebb.kubectl().apply(QUICK).await?;
    sees_its_volumes(ebb).await
}

/// A command that `wrapper` becomes.
pub(super) fn copy_of(command: &Command, wrapper: &str, options: &[&str]) -> Command {
    let command = command.as_std();
    let mut outer = Command::new(wrapper);
    outer.args(options).arg(command.get_program()).args(command.get_args());
    outer.stdin(Stdio::null()).stdout(Stdio::piped());
    outer
}

async fn sees_its_volumes(ebb: Ebb) -> anyhow::Result<()> {
    let kubectl = ebb.kubectl();
    let models = ebb.data().join("host-models");
    std::fs::create_dir(&models)?;
    std::fs::write(models.join("weights"), "heavy")?;
    kubectl.apply(FEATURES).await?;
    kubectl.ok(&["create", "configmap", "settings", "--from-literal=mode=fast"]).await?;
    kubectl.ok(&["create", "secret", "generic", "keys", "--from-literal=token=s3cret"]).await?;
    let script = "cat /mnt/ebb-models/weights /etc/ebb-settings/mode /all/token /all/own; \
        for file in /mnt/ebb-models/new /etc/ebb-settings/new; do \
          touch $file 2>/dev/null && echo WRITABLE $file; done; \
        echo kept > /mnt/ebb-cache/file; cat /mnt/ebb-cache/file; \
        echo shared > /dev/shm/file; cat /dev/shm/file; id -u";
    let mounts = "{name: models, mountPath: /mnt/ebb-models, readOnly: true}, \
        {name: settings, mountPath: /etc/ebb-settings, readOnly: true}, \
        {name: all, mountPath: /all, readOnly: true}, {name: cache, mountPath: /mnt/ebb-cache}, \
        {name: shm, mountPath: /dev/shm}";
    let volumes = format!(
        "{{name: models, hostPath: {{path: {}}}}}, {{name: settings, configMap: {{name: settings}}}}, \
         {{name: all, projected: {{sources: [{{secret: {{name: keys}}}}, {{downwardAPI: {{items: \
         [{{path: own, fieldRef: {{fieldPath: metadata.namespace}}}}]}}}}]}}}}, \
         {{name: cache, emptyDir: {{}}}}, {{name: shm, emptyDir: {{medium: Memory}}}}",
        models.display()
    );
    kubectl.apply(&scripted("mounted", script, mounts, &volumes)).await?;
    kubectl.wait_ready("mounted").await?;
    let (client, host) = (ebb.client(), ebb.host("mounted"));
    assert_eq!(client.get(&host, "/").await?.status, 200);
    let output = said(&kubectl, "mounted").await?;
    assert!(output.contains("heavyfasts3cretdefaultkept"), "{output}");
    let user = nix::unistd::geteuid();
    assert!(output.contains(&format!("kept\nshared\n{user}\n")), "{output}");
    assert!(!output.contains("WRITABLE"), "{output}");
    let volumes = ebb.data().join("volumes");
    let in_memory = PathBuf::from(std::fs::read_to_string(volumes.join(".in-memory"))?);
    let count = |folder: &Path| std::fs::read_dir(folder).map(Iterator::count);
    // The pod's, and the note.
    assert_eq!((count(&volumes)?, count(&in_memory)?), (2, 1));
    kubectl.wait_asleep("mounted").await;
    ebb_tests::eventually("the volumes go with the pod", || async {
        let left = (count(&volumes).ok()?, count(&in_memory).ok()?);
        (left == (1, 0)).then_some(())
    })
    .await;
    for path in ["/mnt/ebb-models", "/etc/ebb-settings", "/all", "/dev/shm/file"] {
        assert!(!std::path::Path::new(path).exists(), "{path} is this machine's");
    }
    assert_eq!(std::fs::read_to_string(models.join("weights"))?, "heavy");
    let (_, folder) = ebb.stop().await?;
    assert!(!in_memory.exists());
    drop(folder);
    Ok(())
}

#[tokio::test]
async fn a_probe_runs_among_the_mounts_too() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    let manifest = scripted(
        "probed",
        // Beside the volume, in a folder that only this program's view has.
        "touch /ebb-app/up",
        "{name: flags, mountPath: /ebb-app/flags}",
        "{name: flags, emptyDir: {}}",
    );
    let probe = "readinessProbe: {exec: {command: [/bin/sh, -c, test -e /ebb-app/up]}}, image: ";
    kubectl.apply(&manifest.replace("image: ", probe)).await?;
    kubectl.wait_ready("probed").await?;
    assert_eq!(ebb.client().get(&ebb.host("probed"), "/").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_mounted_is_said_and_comes_when_it_is_there() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(FEATURES).await?;
    let mount = "{name: v, mountPath: /ebb-late, readOnly: true}";
    let late = scripted("late", "cat /ebb-late/mode", mount, "{name: v, configMap: {name: late}}");
    let (reason, message) = broken(&ebb, "late", &late).await?;
    assert!(message.contains("configmap \"late\" not found"), "{reason}: {message}");
    kubectl.ok(&["create", "configmap", "late", "--from-literal=mode=come"]).await?;
    kubectl.wait_ready("late").await?;
    assert!(said(&kubectl, "late").await?.contains("come"));

    let absent = "{name: v, hostPath: {path: /ebb-absent, type: Directory}}";
    let (_, message) = broken(&ebb, "absent", &scripted("absent", ":", mount, absent)).await?;
    assert!(message.contains("/ebb-absent"), "{message}");

    let mount = "{name: v, mountPath: /proc/ebb}";
    let (_, message) =
        broken(&ebb, "proc", &scripted("proc", ":", mount, "{name: v, emptyDir: {}}")).await?;
    assert!(message.contains("use another mountPath"), "{message}");
    Ok(())
}

#[tokio::test]
async fn models_see_the_variables_that_the_command_line_names() -> anyhow::Result<()> {
    let folder = Arc::new(TempDir::with_prefix("ebb-test-")?);
    // Cargo sets them for the tests, and `ebb` has what the tests have.
    let names = ["--env", "CARGO_PKG_N*,CARGO_MANIFEST_DIR"];
    let ebb = Ebb::start_in(folder, &names).await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&scripted("env", "env", "", "")).await?;
    kubectl.wait_ready("env").await?;
    let output = said(&kubectl, "env").await?;
    assert!(output.contains("CARGO_PKG_NAME=ebb-tests\n"), "{output}");
    assert!(output.contains("CARGO_MANIFEST_DIR="), "{output}");
    assert!(!output.contains("CARGO_PKG_VERSION="), "{output}");
    Ok(())
}
