//! The real `kubectl`, pointed at one Ebb.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use crate::eventually;

/// Longest run of one command; `wait` and `logs -f` bring shorter limits of their own.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(2);

/// `kubectl` with one kubeconfig and a cache of its own.
#[derive(Clone, Debug)]
pub struct Kubectl {
    kubeconfig: PathBuf,
    cache: PathBuf,
    is_apart: bool,
}

/// The output of a command, and whether it succeeded.
#[derive(Clone, Debug)]
pub struct Said {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Whether it succeeded.
    pub ok: bool,
}

impl Kubectl {
    /// `kubectl` for the Ebb whose kubeconfig this is.
    pub fn new(kubeconfig: &Path) -> Self {
        let cache = kubeconfig.with_extension("cache");
        Self { kubeconfig: kubeconfig.to_path_buf(), cache, is_apart: false }
    }

    /// The same in a process group of its own: Ctrl-C reaches the caller alone. The caller has to
    /// live on until a command has ended, or to drop it, which kills it.
    #[must_use]
    pub fn apart(self) -> Self {
        Self { is_apart: true, ..self }
    }

    /// Starts a command with piped output, to be read while it runs.
    pub fn spawn(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        self.command(arguments).spawn().context("kubectl cannot be started")
    }

    /// Runs a command to its end, whether it succeeds or not.
    pub async fn run(&self, arguments: &[&str], input: Option<&str>) -> anyhow::Result<Said> {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.unwrap_or_default().as_bytes()).await?;
        }
        let output = tokio::time::timeout(COMMAND_TIMEOUT, child.wait_with_output())
            .await
            .with_context(|| format!("kubectl {arguments:?} ran past {COMMAND_TIMEOUT:?}"))??;
        Ok(Said {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            ok: output.status.success(),
        })
    }

    /// Runs a command that must succeed and returns its output.
    pub async fn ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.ok_with(arguments, None).await
    }

    /// Runs a command that must fail and returns what it said on standard error.
    pub async fn fails(&self, arguments: &[&str], input: Option<&str>) -> anyhow::Result<String> {
        let said = self.run(arguments, input).await?;
        if said.ok {
            bail!("kubectl {arguments:?} succeeded, it should not have: {}", said.out);
        }
        Ok(said.err)
    }

    /// `kubectl apply` of a manifest, client side.
    pub async fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        self.ok_with(&["apply", "-f", "-"], Some(manifest)).await
    }

    /// Waits until a service is Ready.
    pub async fn wait_ready(&self, service: &str) -> anyhow::Result<()> {
        let object = format!("ksvc/{service}");
        self.ok(&["wait", "--for=condition=Ready", "--timeout=60s", &object]).await.map(drop)
    }

    /// Waits until the first revision of a service is made and not Ready. Returns reason and
    /// message.
    pub async fn wait_failed(&self, service: &str) -> anyhow::Result<(String, String)> {
        let revision = format!("rev/{service}-00001");
        self.ok(&["wait", "--for=create", "--timeout=60s", &revision]).await?;
        self.ok(&["wait", "--for=condition=Ready=False", "--timeout=60s", &revision]).await?;
        let part = |field| format!(r#"{{.status.conditions[?(@.type=="Ready")].{field}}}"#);
        Ok((
            self.field(&revision, &part("reason")).await?,
            self.field(&revision, &part("message")).await?,
        ))
    }

    /// Waits until a service has no pod.
    pub async fn wait_asleep(&self, service: &str) {
        let label = format!("serving.knative.dev/service={service}");
        eventually(&format!("{service} sleeps"), || async {
            let pods = self.ok(&["get", "pods", "-l", &label, "-o", "name"]).await.ok()?;
            pods.trim().is_empty().then_some(())
        })
        .await;
    }

    /// One field of one object by JSONPath; empty when it is not there.
    pub async fn field(&self, object: &str, path: &str) -> anyhow::Result<String> {
        self.ok(&["get", object, "-o", &format!("jsonpath={path}")]).await
    }

    async fn ok_with(&self, arguments: &[&str], input: Option<&str>) -> anyhow::Result<String> {
        let said = self.run(arguments, input).await?;
        if !said.ok {
            bail!("kubectl {arguments:?} failed: {}{}", said.out, said.err);
        }
        Ok(said.out)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(&self.cache)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if self.is_apart {
            command.process_group(0);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::unistd::{Pid, getpgid};

    use super::*;

    /// Ctrl-C in a terminal goes to the group of its foreground: to a kubectl in it as well.
    #[tokio::test]
    async fn only_one_apart_has_a_process_group_of_its_own() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        symlink("/bin/true", folder.path().join("kubectl"))?;
        let beside = Kubectl::new(&folder.path().join("kubeconfig"));
        for (kubectl, is_apart) in [(beside.clone(), false), (beside.apart(), true)] {
            let child = kubectl.command(&["get", "pods"]).env("PATH", folder.path()).spawn()?;
            let pid = Pid::from_raw(i32::try_from(child.id().context("it runs")?)?);
            assert_eq!(getpgid(Some(pid))? == pid, is_apart);
        }
        Ok(())
    }
}
