//! Thirty at once: made, and woken.

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

/// How many at once.
const COUNT: usize = 30;
/// Rounds; odd, so that the median was really seen.
const ROUNDS: usize = 3;
/// Longest time for one burst.
const LIMIT: Duration = Duration::from_mins(4);

pub(super) async fn measure(site: &Site) -> anyhow::Result<Vec<Figure>> {
    let floor = Floor::new(site);
    let names: Vec<_> = (0..COUNT).map(|number| format!("burst-{number}")).collect();
    let (mut made, mut bare_made) = (Vec::new(), Vec::new());
    let (mut woken, mut bare_woken) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        try_join_all(names.iter().map(|name| floor.create(name, 1, Token::None))).await?;
        floor.available(COUNT).await?;
        bare_made.push(began.elapsed().as_secs_f64());
        try_join_all(names.iter().map(|name| floor.scale(name, 0))).await?;
        floor.gone().await;
        bare_woken.extend(floor.wake(&names).await?.iter().map(Duration::as_secs_f64));
        floor.delete_all().await?;

        made.push(create(site, &names).await?);
        for name in &names {
            site.ebb.kubectl().wait_asleep(name).await;
        }
        tokio::time::sleep(super::REST).await;
        woken.extend(wake(site, &names).await?);
        delete(site).await?;
    }
    Ok(vec![
        ratio("30 services made at once, all Ready", &mut made, &mut bare_made, 1.15),
        ratio("30 cold services called at once, p50", &mut woken, &mut bare_woken, 1.05),
    ])
}

/// Makes them all; seconds until the last is Ready.
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

/// Calls them all; seconds until each answered.
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

/// Watches until that many objects are as they should be. A watch, because asking again and again
/// would slow down what is measured.
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

fn ratio(name: &'static str, ours: &mut [f64], bare: &mut [f64], goal: f64) -> Figure {
    let (ours, bare) = (median(ours), median(bare));
    let paired = Paired { name: "bare", value: bare, unit: "s" };
    Figure { name, value: ours / bare, unit: "x", goal: Some(goal), paired: Some(paired) }
}
