//! The embedded API beside the real kube-apiserver: the same operations, out of a seed, must be
//! answered alike by both, but for the list in `argued.rs`.
//!
//! Run by tests/difference/run, which starts an etcd and a kube-apiserver for it: without
//! controllers, so that nothing else writes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may fail")]

mod argued;
mod compare;
mod dice;
mod generate;
mod kinds;
mod memory;
mod operation;
mod patches;
mod play;
mod side;
mod watches;

use std::path::PathBuf;
use std::time::Duration;

use ebb_apiserver::{ApiOptions, ApiServer};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::generate::Episode;
use crate::play::Pair;
use crate::side::send;

/// Names the kubeconfig of the real server.
const KUBECONFIG: &str = "EBB_DIFFERENCE_KUBECONFIG";
/// Seeds to play, as `FIRST..END`, in the place of the fixed ones.
const SEEDS: &str = "EBB_DIFFERENCE_SEEDS";
/// Operations of one episode.
const LENGTH: usize = 25;
/// Seeds of a test run: 500 operations, and among their answers every difference that is argued for.
/// An episode ends where one server takes what the other refuses for an argued reason, so somewhat
/// fewer are compared.
const FIXED: [u64; 20] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 56, 61, 92, 129, 134, 136, 162, 198];

/// Most findings that are shown.
const SHOWN_MAX: usize = 40;
/// How many of them are made small.
const SHRUNK_MAX: usize = 3;

#[tokio::test]
async fn the_embedded_api_answers_as_the_real_one() {
    let definitions = ebb_api::crd::all();
    let options = ApiOptions { definitions: definitions.clone(), ..ApiOptions::memory() };
    let server = ApiServer::open(options).unwrap();
    let pair = Pair { real: real().await, embedded: server.client() };
    for definition in &definitions {
        define(&pair.real, definition).await;
    }
    let given = std::env::var(SEEDS).ok();
    let seeds = given.as_deref().map_or_else(
        || FIXED.to_vec(),
        |text| {
            let (first, end) = text.split_once("..").expect("seeds are FIRST..END");
            (first.parse().unwrap()..end.parse().unwrap()).collect()
        },
    );
    let mut findings = Vec::new();
    for seed in seeds {
        let shrinks = findings.len() < SHRUNK_MAX;
        findings.extend(pair.play(&Episode::new(seed, LENGTH), shrinks).await);
        if findings.len() >= SHOWN_MAX {
            break;
        }
    }
    let count = findings.len();
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{count} differences\n\n{}", texts.join("\n"));
    if given.is_none() {
        assert_eq!(argued::unused(), Vec::<&str>::new(), "argued, but did not occur");
    }
}

#[test]
fn the_documentation_tells_what_is_argued_for() {
    let told: Vec<&str> = include_str!("../../docs/api.md").split_whitespace().collect();
    let told = told.join(" ");
    let untold: Vec<&str> = argued::reasons().filter(|reason| !told.contains(reason)).collect();
    assert_eq!(untold, Vec::<&str>::new(), "docs/api.md does not have them");
}

/// A client of the real server.
async fn real() -> kube::Client {
    let path = std::env::var_os(KUBECONFIG).map(PathBuf::from);
    let path = path.unwrap_or_else(|| panic!("{KUBECONFIG} is not set: use tests/difference/run"));
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

/// Adds a custom kind to the real server, and waits until it is served.
async fn define(
    client: &kube::Client,
    definition: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
) {
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let body = serde_json::to_vec(definition).unwrap();
    let request = http::Request::post(path).header("content-type", "application/json");
    let answer = send(client, request.body(body.into()).unwrap()).await;
    assert!(answer["code"] == 201 || answer["code"] == 409, "{answer}");
    let spec = &definition.spec;
    let objects = format!("/apis/{}/{}/{}", spec.group, spec.versions[0].name, spec.names.plural);
    for _ in 0..200 {
        let request = http::Request::get(&objects).body(Vec::new().into()).unwrap();
        if send(client, request).await["code"] == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{objects} is not served");
}
