//! The command line of `ebb-controller`.

use std::net::SocketAddr;

use clap::Parser;
use ebb_daemon::process::Common;
use ipnet::IpNet;

/// Makes Deployments match Services, Configurations, Routes and Revisions.
///
/// Several replicas may run: one leads, and another takes over within seconds.
#[derive(Parser, Debug)]
#[command(name = "ebb-controller", version, after_help = EXAMPLES)]
pub struct ControllerFlags {
    /// Name of the gateway's inner door in the cluster; each Route gets a Service of its own name
    /// that points there
    #[arg(long, value_name = "HOST")]
    pub gateway: Option<String>,

    /// Image of ebb-fetch, which fetches the models that templates name by serving.ebb.dev/model
    #[arg(long, value_name = "IMAGE")]
    pub fetch_image: Option<String>,

    /// A network, as in 127.0.0.0/8, that models may come from although it is the pod's own or the
    /// link's; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub model_network: Vec<IpNet>,

    /// Address on which admission reviews are taken, over TLS; without it objects are neither
    /// defaulted nor validated here
    #[arg(long, value_name = "ADDR")]
    pub webhook: Option<SocketAddr>,

    /// Name of the Service, in this namespace, by which the API server reaches the webhook
    #[arg(long, value_name = "NAME", default_value = "ebb-webhook")]
    pub webhook_service: String,

    /// Seconds that the lease of this replica lasts without a renewal: how long no model is woken
    /// when its node is lost
    // No other part stands in for the controller: each wake needs its patch of a scale. So this is
    // the shortest lease that bears an API server that takes 5 s for each answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 12)]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=60))]
    pub lease: u64,

    /// The flags of all daemons.
    #[command(flatten)]
    pub common: Common,
}

const EXAMPLES: &str = "\
Example, on the cluster that KUBECONFIG names:
  ebb-controller --name $(hostname) --log-format text";
