//! The command line of `ebb`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ebb_api::quantity;
use ebb_fetch::options::FetchOptions;
use ipnet::IpNet;

use crate::scheduler::DeviceCount;
use crate::terminal::Output;

/// Least memory that is taken for meant: 8 alone would be eight bytes.
const MEMORY_MIN: u64 = 1 << 20;

/// Serves models that scale to zero, with Knative's API.
#[derive(Parser, Debug)]
#[command(name = "ebb", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `ebb` can do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the whole platform on this machine: no Kubernetes, no root, no containers
    #[command(after_help = LOCAL_EXAMPLES)]
    Local(Box<Local>),
    /// Fetch the files of a model into the cache, before a service needs them
    #[command(after_help = FETCH_EXAMPLES)]
    Fetch(FetchOptions),
    /// Ends what a killed `ebb local` left behind; started by `ebb local` itself
    #[command(hide = true)]
    Guardian,
    /// Makes mounts and becomes a model; started by `ebb local` itself
    #[command(hide = true)]
    Mounted {
        /// What to mount where.
        plan: String,
        /// The model's program and its arguments.
        #[arg(last = true)]
        words: Vec<OsString>,
    },
}

const FETCH_EXAMPLES: &str = "\
Examples:
  ebb fetch hf://Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf
  HF_TOKEN=... ebb fetch hf://meta-llama/Llama-3.2-1B-Instruct@main
  ebb fetch https://models.example.com/digits.onnx#sha256=...
  ebb fetch s3://models/digits/ --cache /srv/models";

const LOCAL_EXAMPLES: &str = "\
Examples:
  ebb local -f service.yaml                     serve one model
  ebb local -f models/ --listen 127.0.0.1:9000  serve a folder of manifests on another port
  ebb local -f models/ --memory 8Gi             five models, and room for two
  ebb local -f models/ --env 'HF_TOKEN,CUDA_*'  models see these variables of this shell
  ebb local -o json | jq .event                 read what happens with a program

Then, in another terminal:
  export KUBECONFIG=\"$HOME/.local/state/ebb/kubeconfig\"
  kubectl get ksvc
  curl http://NAME.default.localhost:8080/";

/// `ebb local`.
#[derive(Args, Debug, Clone)]
pub struct Local {
    /// Apply the manifests in this file or folder at the start; may be repeated
    #[arg(short, long = "filename", value_name = "FILE|DIR")]
    pub filename: Vec<PathBuf>,

    /// Where requests are taken; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Where requests to cluster-local hosts (NAME.NAMESPACE, NAME.NAMESPACE.svc) are taken too, on
    /// loopback only; on a cluster this is the door for pods
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    pub inner: SocketAddr,

    /// Where kubectl and other clients of the API are served, on loopback only
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
    pub api: SocketAddr,

    /// Where metrics and health are served; not at all unless given
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,

    /// Memory for all replicas together: a model that does not fit waits until idle ones are stopped
    /// [default: that of this machine, or of its control group, less a tenth]
    #[arg(long, value_name = "BYTES", value_parser = memory)]
    pub memory: Option<u64>,

    /// Devices for replicas that ask for them, by the name of their resource, as in nvidia.com/gpu=1;
    /// may be repeated [default: the NVIDIA GPUs of this machine]
    #[arg(long, value_name = "RESOURCE=COUNT", value_delimiter = ',')]
    pub devices: Vec<DeviceCount>,

    /// Variables of this shell that models see, beside PATH, HOME and LANG: a name, or a beginning with
    /// an asterisk, as in CUDA_*; may be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = passed_on)]
    pub env: Vec<String>,

    /// Folder that keeps the models which templates name by serving.ebb.dev/model
    /// [default: ~/.cache/ebb/models]
    #[arg(long, value_name = "DIR", env = "EBB_MODELS")]
    pub models: Option<PathBuf>,

    /// Size of that folder: the models that were used least recently go when another needs the room
    #[arg(long, value_name = "BYTES", value_parser = memory, default_value = "100Gi")]
    pub models_limit: u64,

    /// A network, as in 127.0.0.0/8, that models may come from although it is this machine's own or the
    /// link's; may be repeated
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub model_network: Vec<IpNet>,

    /// Folder of the state, with which the next start goes on [default: ~/.local/state/ebb]
    #[arg(long, value_name = "DIR", env = "EBB_DATA")]
    pub data: Option<PathBuf>,

    /// The kubeconfig to write [default: kubeconfig in the state folder]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Format of the events on standard output
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Output,

    /// What to log on standard error: a level, or target=level pairs
    #[arg(long, value_name = "FILTER", env = "EBB_LOG", default_value = "warn")]
    pub log: String,
}

impl Local {
    /// The folder of the state.
    pub fn data_folder(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| {
            let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
            state.unwrap_or_else(|| home().join(".local/state")).join("ebb")
        })
    }

    /// The folder that keeps models.
    pub fn models_folder(&self) -> PathBuf {
        self.models.clone().unwrap_or_else(cache_folder)
    }

    /// The variables that `--env` names, of those in `here`.
    ///
    /// # Errors
    ///
    /// The name of one that is not there. A beginning that none has is no error.
    pub fn passed_on(
        &self,
        here: impl Fn() -> BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, String> {
        let mut passed_on = BTreeMap::new();
        let here = if self.env.is_empty() { BTreeMap::new() } else { here() };
        for name in &self.env {
            if let Some(beginning) = name.strip_suffix('*') {
                let fits = here.iter().filter(|(name, _)| name.starts_with(beginning));
                passed_on.extend(fits.map(|(name, value)| (name.clone(), value.clone())));
            } else if let Some(value) = here.get(name) {
                passed_on.insert(name.clone(), value.clone());
            } else {
                return Err(name.clone());
            }
        }
        Ok(passed_on)
    }

    /// The kubeconfig to write.
    pub fn kubeconfig_file(&self) -> PathBuf {
        self.kubeconfig.clone().unwrap_or_else(|| self.data_folder().join("kubeconfig"))
    }
}

/// A fetch into the folder that `ebb local` keeps models in, unless it names another.
pub fn with_cache(mut options: FetchOptions) -> FetchOptions {
    let named = || std::env::var_os("EBB_MODELS").map(PathBuf::from);
    options.cache.get_or_insert_with(|| named().unwrap_or_else(cache_folder));
    options
}

fn cache_folder() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    cache.unwrap_or_else(|| home().join(".cache")).join("ebb/models")
}

fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from)
}

fn passed_on(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('*').unwrap_or(text);
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_name && !name.is_empty() {
        Ok(text.to_owned())
    } else {
        Err("it must be the name of a variable, as in HF_TOKEN, or a beginning, as in CUDA_*; its \
             value is that of this shell"
            .to_owned())
    }
}

fn memory(text: &str) -> Result<u64, String> {
    let bytes = quantity::whole(text).filter(|bytes| *bytes >= MEMORY_MIN);
    bytes.ok_or_else(|| {
        format!("it must be a size of at least {}, as in 8Gi", quantity::bytes(MEMORY_MIN))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_shows_examples() {
        Cli::command().debug_assert();
        let mut command = Cli::command();
        let local = command.find_subcommand_mut("local").unwrap();
        assert!(local.render_long_help().to_string().contains("ebb local -f service.yaml"));
    }

    #[test]
    fn the_kubeconfig_lies_in_the_state_folder_unless_told_otherwise() {
        let cli = Cli::try_parse_from(["ebb", "local", "--data", "/srv/ebb"]).unwrap();
        let Command::Local(local) = cli.command else { panic!("not local") };
        assert_eq!(local.kubeconfig_file(), PathBuf::from("/srv/ebb/kubeconfig"));
    }

    #[test]
    fn models_see_the_variables_that_are_named() {
        let here = || {
            let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            BTreeMap::from([pair("CUDA_A", "1"), pair("CUDA_B", "2"), pair("HF_TOKEN", "t")])
        };
        let passed_on = |text: &str| {
            let cli = Cli::try_parse_from(["ebb", "local", "--env", text]).map_err(drop)?;
            let Command::Local(local) = cli.command else { panic!("not local") };
            let passed_on = local.passed_on(here).map_err(drop)?;
            Ok::<_, ()>(passed_on.into_keys().collect::<Vec<_>>().join(","))
        };
        assert_eq!(passed_on("CUDA_*,HF_TOKEN"), Ok("CUDA_A,CUDA_B,HF_TOKEN".to_owned()));
        assert_eq!(passed_on("ROCM_*"), Ok(String::new()));
        assert_eq!(
            (passed_on("HF_HOME"), passed_on("A=b"), passed_on("*")),
            (Err(()), Err(()), Err(()))
        );
    }

    #[test]
    fn what_there_is_for_models_is_a_size_and_numbers_of_devices() {
        let read = |args: &[&str]| {
            let cli = Cli::try_parse_from(["ebb", "local"].iter().chain(args)).ok()?;
            let Command::Local(local) = cli.command else { panic!("not local") };
            Some((local.memory, local.devices.len()))
        };
        assert_eq!(
            read(&["--memory", "1.5Gi", "--devices", "a.b/c=1,a.b/d=2"]),
            Some((Some(3 << 29), 2))
        );
        assert_eq!(read(&[]), Some((None, 0)));
        assert_eq!((read(&["--memory", "8"]), read(&["--devices", "gpu"])), (None, None));
    }
}
