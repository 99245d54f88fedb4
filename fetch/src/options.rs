//! What a fetch is told on its command line.

use std::path::PathBuf;
use std::time::Duration;

use ebb_api::quantity;
use ipnet::IpNet;

/// One model, and the cache that it goes to.
///
/// Secrets come as variables, which no list of processes shows: `HF_TOKEN`, `MODEL_TOKEN`, `AWS_*`;
/// and the source may, for a URL's query can be a signature.
#[derive(clap::Args, Clone, Debug)]
pub struct FetchOptions {
    /// Where the model is: hf://ORGANISATION/NAME/FILE with @REVISION behind the name if it matters,
    /// https://HOST/FILE or s3://BUCKET/KEY; #sha256=... may follow one file
    #[arg(env = "EBB_MODEL_SOURCE", hide_env_values = true)]
    pub source: String,
    /// Folder of the cache
    #[arg(long, value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
    /// Name that the model's folder must have in the cache: another one than the source's own is an
    /// error, before anything is fetched
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Bytes that the cache may hold, as in 100Gi: models used least recently go first. Without it
    /// the disk is the limit
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub limit: Option<u64>,
    /// Network that may be connected to although it is a loopback, link-local or metadata address,
    /// as in 127.0.0.0/8
    #[arg(long, value_name = "CIDR")]
    pub allow_network: Vec<IpNet>,
    /// Seconds without a byte after which a connection counts as broken
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub idle_timeout: Duration,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
}

fn bytes(text: &str) -> Result<u64, String> {
    quantity::whole(text)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "write a number of bytes above 0, as in 100Gi".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "write 1 to 3600 seconds".to_owned())
}
