//! The command line of `ebb-activator`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;
use ebb_api::labels;
use ebb_daemon::identity;
use ebb_daemon::process::Common;

/// The gateway: holds requests for sleeping revisions and forwards the rest.
#[derive(Parser, Debug)]
#[command(name = "ebb-activator", version, after_help = EXAMPLES)]
pub struct ActivatorFlags {
    /// Address for requests from outside, to the external hosts of Routes that are not
    /// cluster-local: HTTP/1.1, and HTTP/2 by prior knowledge
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// Address for requests from inside the cluster, to all hosts. Only pods may be able to connect
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8081")]
    pub inner: SocketAddr,

    /// Address of the autoscaler. Reports go to every address of the host; the option may be
    /// repeated
    #[arg(long, value_name = "HOST:PORT", default_value = "ebb-autoscaler:8080")]
    pub autoscaler: Vec<String>,

    /// Address for other activators: their requests to revisions with a concurrency limit that this
    /// activator owns. Without it each activator applies such limits on its own
    #[arg(long, value_name = "ADDR")]
    pub peers: Option<SocketAddr>,

    /// Labels of the activators' pods, in the namespace that Ebb runs in. A pod is reached at its
    /// container port "peers", or else at the port of --peers
    #[arg(long, value_name = "SELECTOR", default_value = labels::ACTIVATORS)]
    pub peers_selector: String,

    /// Most connections at once from one address at each door. Without it there is no such limit,
    /// which is right where all clients come through a load balancer
    #[arg(long, value_name = "COUNT")]
    pub connections_per_address: Option<NonZeroUsize>,

    /// Seconds that requests in flight may take to end after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub drain: u64,

    /// File with the token that autoscalers and other activators ask for: a token of this pod's
    /// ServiceAccount for the audience ebb.dev/internal. The file is read again as the token is
    /// renewed
    #[arg(long, value_name = "FILE", default_value = identity::TOKEN_FILE)]
    pub token: PathBuf,

    /// Show no token and let every activator in; --peers must then be on loopback
    #[arg(long, conflicts_with = "token")]
    pub no_authentication: bool,

    /// Options of every daemon.
    #[command(flatten)]
    pub common: Common,
}

const EXAMPLES: &str = "\
Example, on the cluster that KUBECONFIG names:
  ebb-activator --name $(hostname) --autoscaler 127.0.0.1:8091 --no-authentication --log-format text";
