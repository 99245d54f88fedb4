//! Thirty services at once: created, and woken.

use std::collections::HashSet;
use std::fmt::Debug;
use std::time::Duration;

use anyhow::Context as _;
use ebb_api::condition;
use ebb_api::serving::Service;
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::Site;
use super::floor::{Floor, Token};
use crate::figures::{Figure, Paired, median};
use crate::note;

/// Services at once.
const COUNT: usize = 30;
/// Rounds; odd, so that the median is one of the measured values. More than a few, because bursts
/// of bare Deployments took from 8.0 to 11.7 s within one hour of the machine that this was written
/// on.
const ROUNDS: usize = 7;
/// Longest time for one burst.
const LIMIT: Duration = Duration::from_mins(4);

/// Seconds of both sides in one round.
struct Pair {
    ours: f64,
    bare: f64,
}

pub(super) async fn measure(site: &Site) -> anyhow::Result<Vec<Figure>> {
    let floor = Floor::new(site);
    let names: Vec<_> = (0..COUNT).map(|number| format!("burst-{number}")).collect();
    let (mut made, mut woken) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        note(&format!("round {round} of {ROUNDS}"));
        let began = Instant::now();
        try_join_all(names.iter().map(|name| floor.create(name, 1, Token::None))).await?;
        floor.available(COUNT).await?;
        let bare_made = began.elapsed().as_secs_f64();
        try_join_all(names.iter().map(|name| floor.scale(name, 0))).await?;
        floor.gone().await;
        let mut bare_woken: Vec<_> =
            floor.wake(&names).await?.iter().map(Duration::as_secs_f64).collect();
        floor.delete_all().await?;

        made.push(Pair { ours: create(site, &names).await?, bare: bare_made });
        for name in &names {
            site.ebb.kubectl().wait_asleep(name).await;
        }
        tokio::time::sleep(super::REST).await;
        let ours = median(&mut wake(site, &names).await?);
        woken.push(Pair { ours, bare: median(&mut bare_woken) });
        delete(site).await?;
    }
    Ok(vec![
        ratio("30 services made at once, all Ready", &made, 1.15),
        ratio("30 cold services called at once, p50", &woken, 1.05),
    ])
}

/// Creates all services. Returns the seconds until the last is Ready.
async fn create(site: &Site, names: &[String]) -> anyhow::Result<f64> {
    let api: Api<Service> = Api::namespaced(site.client.clone(), &site.namespace);
    let services: Vec<Service> = names
        .iter()
        .map(|name| anyhow::Ok(serde_saphyr::from_str(&super::model(name, Token::None))?))
        .collect::<anyhow::Result<_>>()?;
    let began = Instant::now();
    let post = PostParams::default();
    try_join_all(services.iter().map(|service| api.create(&post, service))).await?;
    let is_ready = |service: &Service| {
        let conditions = service.status.as_ref().map(|status| status.conditions.as_slice());
        condition::find(conditions.unwrap_or_default(), "Ready")
            .is_some_and(condition::Condition::is_true)
    };
    until(&site.client, &site.namespace, &ListParams::default(), names.len(), is_ready).await?;
    Ok(began.elapsed().as_secs_f64())
}

/// Calls all services. Returns the seconds until each answered.
async fn wake(site: &Site, names: &[String]) -> anyhow::Result<Vec<f64>> {
    let client = site.ebb.client();
    let calls = names.iter().map(|name| {
        let (client, host) = (client.clone(), site.ebb.host(name));
        async move {
            let began = Instant::now();
            let answer = client.get(&host, "/").await?;
            anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
            Ok(began.elapsed().as_secs_f64())
        }
    });
    try_join_all(calls).await
}

async fn delete(site: &Site) -> anyhow::Result<()> {
    let api: Api<Service> = Api::namespaced(site.client.clone(), &site.namespace);
    api.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
    let kubectl = site.ebb.kubectl();
    ebb_tests::eventually("the pods of the services go", || async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        kubectl.ok(&["get", "pods", "-o", "name"]).await.ok()?.trim().is_empty().then_some(())
    })
    .await;
    Ok(())
}

/// Watches until `is_done` holds for `count` objects. A watch, because polling would slow down the
/// measured work.
pub(super) async fn until<K>(
    client: &Client,
    namespace: &str,
    which: &ListParams,
    count: usize,
    is_done: impl Fn(&K) -> bool,
) -> anyhow::Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let listed = api.list(which).await?;
    let since = listed.metadata.resource_version.clone().unwrap_or_default();
    let mut done: HashSet<String> =
        listed.items.iter().filter(|object| is_done(object)).map(ResourceExt::name_any).collect();
    let mut params = WatchParams::default();
    params.label_selector.clone_from(&which.label_selector);
    let mut events = api.watch(&params, &since).await?.boxed();
    let rest = async {
        while done.len() < count {
            match events.try_next().await?.context("the watch ended")? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) if is_done(&object) => {
                    done.insert(object.name_any());
                }
                _ => {}
            }
        }
        Ok(())
    };
    timeout(LIMIT, rest).await.context("not all came about")?
}

/// The median of the ratios of the rounds: the machine's speed drifts from round to round, and both
/// sides of one round drift together.
fn ratio(name: &'static str, pairs: &[Pair], goal: f64) -> Figure {
    let of = |value: fn(&Pair) -> f64| median(&mut pairs.iter().map(value).collect::<Vec<_>>());
    let paired = Paired { name: "bare", value: of(|pair| pair.bare), unit: "s" };
    let value = of(|pair| pair.ours / pair.bare);
    Figure { name, value, unit: "x", goal: Some(goal), paired: Some(paired) }
}
