//! The command line of `ebb-autoscaler`.

use std::net::SocketAddr;

use clap::Parser;
use ebb_api::labels;
use ebb_daemon::process::Common;

/// Decides how many replicas each revision has.
///
/// Several may run: all hear every activator, one leads, and another takes over within seconds.
#[derive(Parser, Debug)]
#[command(name = "ebb-autoscaler", version, after_help = EXAMPLES)]
pub struct AutoscalerFlags {
    /// Where activators report
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// Labels of the activators' pods, in the namespace that Ebb runs in: no scale is lowered while
    /// one of them may send requests and is not heard
    #[arg(long, value_name = "SELECTOR", default_value = labels::ACTIVATORS)]
    pub activators_selector: String,

    /// Seconds after which an Event tells of a scale that is held up by an activator that is not
    /// heard, or by a pod that is not seen
    #[arg(long, value_name = "SECONDS", env = "EBB_UNHEARD_NOTICE", default_value_t = 600)]
    pub unheard_notice: u64,

    /// Seconds that this replica leads without a renewal of its lease: for so long nobody decides
    /// when its node is lost
    // The default is the shortest that bears an API server that takes 5 s for each answer. Only a
    // leader answers reports, so activators wake revisions themselves until there is another.
    #[arg(long, value_name = "SECONDS", default_value_t = 12)]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=60))]
    pub lease: u64,

    /// Accept reports without a token. Every client may then decide what is scaled, so --listen
    /// must be on loopback
    #[arg(long)]
    pub no_authentication: bool,

    /// The flags of all daemons.
    #[command(flatten)]
    pub common: Common,
}

const EXAMPLES: &str = "\
Example, on the cluster that KUBECONFIG names:
  ebb-autoscaler --name $(hostname) --listen 127.0.0.1:8091 --no-authentication --log-format text";
