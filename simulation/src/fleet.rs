//! The processes of Ebb as Kubernetes runs them: each is a container of a pod, started again when it
//! ends, and replaced by a new pod in an upgrade.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ebb_activator::Activator;
use ebb_api::config::SYSTEM_NAMESPACE;
use ebb_autoscaler::SizeReader;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::api_link::{ApiLink, ApiLinks, AtWrite, Sky, Weather};
use crate::chance::Chance;
use crate::clients::Endpoints;
use crate::gate::Tasks;
use crate::invariants::ALIVE;
use crate::judge::{Judge, What};
use crate::network::Name;
use crate::parts::{self, INNER_PORT, Part, Seen, Start};
use crate::story::Story;

mod upgrade;

/// What an activator's readiness probe is asked each, in the chart, and how often it must fail.
const PROBE_EVERY_MS: u64 = 2_000;

/// The processes. Cheap to clone; clones are the same fleet.
#[derive(Clone)]
pub(crate) struct Fleet {
    links: ApiLinks,
    /// A client that no fault touches: kubelet's and the Deployment controller's.
    client: Client,
    endpoints: Endpoints,
    judge: Judge,
    story: Story,
    chance: Chance,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    members: BTreeMap<Name, Member>,
    /// Pods made of each part.
    made: BTreeMap<Part, u8>,
}

/// One pod of the fleet.
struct Member {
    part: Part,
    address: IpAddr,
    sky: watch::Sender<Sky>,
    run: Option<Run>,
    runs: u32,
    /// Whether it was made in the place of another.
    is_successor: bool,
    /// Whether it is being replaced or was.
    is_leaving: bool,
}

/// One run of a process.
struct Run {
    link: ApiLink,
    shutdown: CancellationToken,
    activator: Option<Activator>,
    sizes: Option<SizeReader>,
    metrics: Arc<Registry>,
    tasks: Tasks,
}

impl Fleet {
    pub(crate) fn new(
        links: ApiLinks,
        client: Client,
        endpoints: Endpoints,
        judge: &Judge,
        chance: Chance,
    ) -> Self {
        let (judge, story) = (judge.clone(), links.story.clone());
        Self { links, client, endpoints, judge, story, chance, state: Arc::default() }
    }

    /// Makes one of the first pods of a part, and starts its process.
    pub(crate) async fn add(&self, part: Part) {
        self.make(part, false).await;
    }

    /// Makes a new pod of a part, and starts its process.
    async fn make(&self, part: Part, is_successor: bool) {
        let name = {
            let mut state = self.state.lock();
            let number = state.made.entry(part).or_default();
            let own = *number;
            *number += 1;
            let (word, net) = match part {
                Part::Activator => ("activator", 1),
                Part::Autoscaler => ("autoscaler", 2),
                Part::Controller => ("controller", 4),
            };
            let name: Name = format!("{word}-{own}").into();
            let member = Member {
                part,
                address: IpAddr::V4(Ipv4Addr::new(10, net, 0, own + 1)),
                sky: watch::Sender::new(Sky::default()),
                run: None,
                runs: 0,
                is_successor,
                is_leaving: false,
            };
            self.links.network.host(&name, member.address);
            state.members.insert(name.clone(), member);
            name
        };
        let component = name.split('-').next().unwrap_or_default();
        let pod = json!({
            "metadata": {"name": &*name, "labels": {
                "app.kubernetes.io/name": "ebb", "app.kubernetes.io/component": component,
            }},
            "spec": {"terminationGracePeriodSeconds": 75, "containers": [{
                "name": component, "image": "ebb",
                "ports": [{"name": "peers", "containerPort": 8082}],
            }]},
        });
        let pod: Pod = serde_json::from_value(pod).expect("a literal");
        self.pods().create(&PostParams::default(), &pod).await.expect("the client has no faults");
        self.start(&name).await;
    }

    /// Starts the process of a pod, unless it runs or leaves.
    pub(crate) fn start(&self, name: &Name) -> BoxFuture<'static, ()> {
        let (fleet, name) = (self.clone(), name.clone());
        Box::pin(async move { fleet.run(&name).await })
    }

    async fn run(&self, name: &Name) {
        let Some((part, seen, run)) = self.begin(name) else { return };
        self.write_status(name, true, false).await;
        self.resolve();
        let Seen { ready, ended, .. } = seen;
        let (fleet, name) = (self.clone(), name.clone());
        if part == Part::Activator {
            let (fleet, name) = (fleet.clone(), name.clone());
            tokio::spawn(async move {
                if ready.await.is_ok() {
                    sleep(fleet.chance.between(0, PROBE_EVERY_MS)).await;
                    fleet.set_ready(&name, run).await;
                }
            });
        }
        tokio::spawn(async move {
            // An error means that the process was ended from outside.
            let Ok(outcome) = ended.await else { return };
            let is_leaving = fleet.state.lock().members.get(&name).is_none_or(|own| own.is_leaving);
            match outcome {
                Err(fault) => fleet.story.blame(ALIVE, format!("{name}: {fault}")),
                Ok(_) if is_leaving => {}
                Ok(ending) => fleet.judge.ends_by_itself(&name, ending),
            }
            if !is_leaving {
                fleet.kill(&name).await;
                fleet.start(&name).await;
            }
        });
    }

    fn begin(&self, name: &Name) -> Option<(Part, Seen, u32)> {
        let mut state = self.state.lock();
        let member = state.members.get_mut(name)?;
        if member.run.is_some() || member.is_leaving {
            return None;
        }
        member.runs += 1;
        let link = self.links.link(name, member.sky.subscribe());
        let shutdown = CancellationToken::new();
        let tasks = Tasks::new(&self.links.network, name);
        let start = Start {
            network: self.links.network.clone(),
            name: name.clone(),
            address: member.address,
            client: link.client(),
            shutdown: shutdown.clone(),
        };
        let mut seen = parts::start(member.part, start, &tasks);
        let (activator, sizes) = (seen.activator.take(), seen.sizes.take());
        let metrics = Arc::clone(&seen.metrics);
        member.run = Some(Run { link, shutdown, activator, sizes, metrics, tasks });
        Some((member.part, seen, member.runs))
    }

    async fn set_ready(&self, name: &Name, run: u32) {
        let (address, is_first) = {
            let state = self.state.lock();
            let Some(member) = state.members.get(name) else { return };
            if member.runs != run || member.run.is_none() || member.is_leaving {
                return;
            }
            (member.address, run == 1 && !member.is_successor)
        };
        self.write_status(name, true, true).await;
        self.judge.activator_is(name, true);
        // The others learn of a new member, which may own what they owned.
        if is_first {
            self.judge.joins();
        } else {
            self.judge.disturbed(What::Member, name.clone());
        }
        self.story.tell(format!("{name} is ready"));
        sleep(self.chance.between(0, 500)).await;
        self.endpoints.add(name, SocketAddr::new(address, INNER_PORT));
    }

    /// Ends a process without mercy.
    pub(crate) async fn kill(&self, name: &Name) {
        self.end(name, What::Activator).await;
    }

    /// Ends what is left of a process. `of_activator` is what the judge notes if it is an activator.
    async fn end(&self, name: &Name, of_activator: What) {
        let part = {
            let mut state = self.state.lock();
            let Some(member) = state.members.get_mut(name) else { return };
            let Some(run) = member.run.take() else { return };
            run.link.close();
            self.links.network.kill(name);
            member.part
        };
        self.note(part, name, of_activator);
        self.withdraw(name);
        sleep(self.chance.between(0, 300)).await;
        self.resolve();
        self.write_status(name, false, false).await;
    }

    /// An activator is no longer ready; load balancers learn of it a moment later.
    fn withdraw(&self, name: &Name) {
        self.judge.activator_is(name, false);
        let (fleet, gone) = (self.clone(), name.clone());
        tokio::spawn(async move {
            sleep(fleet.chance.between(0, 1_000)).await;
            fleet.endpoints.remove(&gone);
        });
    }

    /// How many writes the runs of a process have made, but for leases.
    pub(crate) fn writes(&self, name: &Name) -> u32 {
        let state = self.state.lock();
        let run = state.members.get(name).and_then(|member| member.run.as_ref());
        run.map_or(0, |run| run.link.writes())
    }

    /// Ends a process at one of its next writes, if it makes so many within `longest`; returns which
    /// write that was.
    pub(crate) async fn kill_at_write(
        &self,
        name: &Name,
        number: u32,
        is_after: bool,
        longest: Duration,
    ) -> Option<String> {
        let when = if is_after { AtWrite::EndAfter } else { AtWrite::EndBefore };
        let write = self.at_write(name, number, "", when, longest).await?;
        self.kill(name).await;
        Some(write)
    }

    /// Waits until a process comes to one of its next writes, of those whose paths contain `of`, if it
    /// makes so many within `longest`, and what is to happen there happens; returns which write it is.
    pub(crate) async fn at_write(
        &self,
        name: &Name,
        number: u32,
        of: &'static str,
        when: AtWrite,
        longest: Duration,
    ) -> Option<String> {
        let link = self.state.lock().members.get(name)?.run.as_ref()?.link.clone();
        // Dropping what `arm` gave takes the fuse out again.
        tokio::time::timeout(longest, link.arm(number, of, when)).await.ok()?.ok()
    }

    /// Something has happened to a process. `of_activator` is what the judge notes if it is an
    /// activator.
    fn note(&self, part: Part, name: &Name, of_activator: What) {
        let what = if part == Part::Activator { of_activator } else { What::Control };
        self.judge.disturbed(what, name.clone());
    }

    /// Makes the API server so for a process, in addition to what it is already.
    pub(crate) fn cloud(&self, name: &Name, weather: Weather) {
        if let Some(member) = self.state.lock().members.get(name) {
            member.sky.send_modify(|sky| sky.add(weather));
        }
    }

    /// Ends a weather that was made so.
    pub(crate) fn clear(&self, name: &Name, weather: Weather) {
        if let Some(member) = self.state.lock().members.get(name) {
            member.sky.send_modify(|sky| sky.remove(weather));
        }
    }

    /// Whether the process of a pod runs, stopped or not.
    pub(crate) fn runs(&self, name: &Name) -> bool {
        self.state.lock().members.get(name).is_some_and(|member| member.run.is_some())
    }

    /// The pods of a part that are not being replaced, in order.
    pub(crate) fn names(&self, part: Part) -> Vec<Name> {
        let state = self.state.lock();
        let own = |(_, member): &(&Name, &Member)| member.part == part && !member.is_leaving;
        state.members.iter().filter(own).map(|(name, _)| name.clone()).collect()
    }

    /// The activators that run, to look into.
    pub(crate) fn activators(&self) -> Vec<(Name, Activator)> {
        let state = self.state.lock();
        let activator = |(name, member): (&Name, &Member)| {
            Some((name.clone(), member.run.as_ref()?.activator.clone()?))
        };
        state.members.iter().filter_map(activator).collect()
    }

    /// The autoscalers that run, to ask how much they keep.
    pub(crate) fn autoscalers(&self) -> Vec<(Name, SizeReader)> {
        let state = self.state.lock();
        let reader = |(name, member): (&Name, &Member)| {
            Some((name.clone(), member.run.as_ref()?.sizes.clone()?))
        };
        state.members.iter().filter_map(reader).collect()
    }

    /// The metrics of every process that runs, as they are scraped.
    pub(crate) fn metrics(&self) -> Vec<(Name, String)> {
        let state = self.state.lock();
        let text = |(name, member): (&Name, &Member)| {
            let mut text = String::new();
            // Writing to a string does not fail.
            let _ =
                prometheus_client::encoding::text::encode(&mut text, &member.run.as_ref()?.metrics);
            Some((name.clone(), text))
        };
        state.members.iter().filter_map(text).collect()
    }

    /// Tells the network where the autoscalers are.
    fn resolve(&self) {
        let state = self.state.lock();
        let runs = |member: &&Member| member.part == Part::Autoscaler && member.run.is_some();
        let addresses = state.members.values().filter(runs);
        let addresses = addresses.map(|member| SocketAddr::new(member.address, 8080)).collect();
        self.links.network.name(parts::AUTOSCALERS, addresses);
    }

    async fn write_status(&self, name: &Name, runs: bool, is_ready: bool) {
        let Some(address) = self.state.lock().members.get(name).map(|member| member.address) else {
            return;
        };
        let component = name.split('-').next().unwrap_or_default();
        let state = if runs {
            json!({"running": {}, "terminated": null})
        } else {
            json!({"running": null, "terminated": {"exitCode": 137}})
        };
        let word = if is_ready { "True" } else { "False" };
        let patch = json!({"status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": word}],
            "containerStatuses": [{
                "name": component, "image": "ebb", "imageID": "", "ready": is_ready,
                "restartCount": 0, "state": state,
            }],
        }});
        drop(self.pods().patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await);
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE)
    }
}
