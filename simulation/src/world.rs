//! One world, from its beginning to its end.

mod ends;
mod faults;
mod leftovers;
mod manifests;
mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ebb_api::config::{Config, SYSTEM_NAMESPACE};
use ebb_api::labels;
use ebb_api::pod::WatchedPod;
use ebb_api::serving::{Configuration, Revision, Route, Service};
use ebb_apiserver::ApiServer;
use ebb_daemon::settings;
use ebb_local::deployments::{self, DeploymentOptions};
use ebb_local::platform::api_options;
use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{SetOnce, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::api_link::{ApiLinks, Sky, Weather};
use crate::chance::Chance;
use crate::clients::{Clients, Endpoints, Errand};
use crate::fleet::Fleet;
use crate::identity::Habit;
use crate::judge::{Judge, What};
use crate::network::{Name, Network};
use crate::parts::Part;
use crate::plan::{Act, Call, Fault, Plan, Wanted};
use crate::pods::Machines;
use crate::story::Story;

const NAMESPACE: &str = "default";
/// The domain that the user has set.
const DOMAIN: &str = "models.example.com";
/// How often the activators are looked into.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// After how many looks it is looked which revisions have room, and at marks: seconds matter there.
const ROOM_EVERY: u32 = 8;
/// Longest time that an event takes to Kubernetes' own controllers, in milliseconds. Ebb counts on
/// less than half a second.
const KUBE_LATE_MS: u64 = 400;
/// Knative's smallest window: the decision to sleep comes soonest.
const WINDOW: &str = "6s";

/// A world that runs.
#[derive(Clone)]
pub(crate) struct World {
    api: ApiServer,
    network: Network,
    fleet: Fleet,
    machines: Machines,
    clients: Clients,
    /// A client without faults.
    user: Client,
    judge: Judge,
    story: Story,
    /// The Services as they were last asked for.
    wanted: Arc<Mutex<BTreeMap<String, Wanted>>>,
    /// Names of the Configurations that a user has made: nothing deletes them.
    kept: Arc<Mutex<BTreeSet<String>>>,
    /// Requests that were made.
    errands: Arc<Mutex<u64>>,
}

/// Lives through a plan. Broken rules are in the story.
pub(crate) async fn live(seed: u64, plan: Plan, story: Story) {
    let world = World::begin(seed, &story).await;
    let begin = Instant::now();
    let mut acts = JoinSet::new();
    for step in plan.steps {
        sleep_until(begin + step.at).await;
        if !matches!(step.act, Act::Break(_)) || matches!(step.act, Act::Break(Fault::Clock { .. }))
        {
            world.story.tell(step.act.to_string());
        }
        let world = world.clone();
        acts.spawn(async move { world.act(step.act).await });
    }
    // Faults end by themselves, and so do requests.
    while let Some(ended) = acts.join_next().await {
        if let Err(error) = ended {
            world.story.blame(crate::invariants::ALIVE, format!("an act of the plan: {error}"));
        }
    }
    world.story.tell("All faults have ended");
    world.end().await;
}

impl World {
    /// A world that begins: all processes are started.
    pub(crate) async fn begin(seed: u64, story: &Story) -> Self {
        let network = Network::new(Chance::new(seed, 2));
        let judge = Judge::new(story, DOMAIN);
        let (publish, config) = watch::channel(Arc::new(Config::default()));
        let api = ApiServer::open(api_options(config)).expect("memory cannot be in use");
        let links = ApiLinks {
            api: api.clone(),
            network: network.clone(),
            chance: Chance::new(seed, 3),
            story: story.clone(),
            witness: Arc::new(judge.clone()),
        };
        let fine = watch::channel(Sky::default());
        let client = |name: &str| links.link(&name.into(), fine.1.clone()).client();
        let user = client("user");
        prepare(&api.client()).await;
        // The API server's own rules follow the settings without delay.
        let publish = settings::Publisher { config: publish, listed: Arc::new(SetOnce::new()) };
        tokio::spawn(settings::follow(
            api.client(),
            Config::default(),
            publish,
            CancellationToken::new(),
        ));
        let ports = DeploymentOptions { ports: None, scheduler: None };
        // Kubernetes' own watches lag, each by itself: of two changes it may see the later first.
        let mut kube = Sky::default();
        if Chance::new(seed, 7).one_in(2) {
            kube.add(Weather::Late(KUBE_LATE_MS));
        }
        let kube = watch::channel(kube);
        let manager = links.link(&"kube".into(), kube.1).client();
        tokio::spawn(deployments::run(manager, ports, CancellationToken::new()));
        tokio::spawn(follow(api.client(), judge.clone()));
        let machines =
            Machines::new(&network, Chance::new(seed, 4), &judge, story, client("kubelet"));
        tokio::spawn(machines.clone().keep());
        let endpoints = Endpoints::default();
        let kubelet = client("kubelet");
        let fleet = Fleet::new(links, kubelet, endpoints.clone(), &judge, Chance::new(seed, 5));
        let outside: Name = "client".into();
        let dialer = network.dialer(&outside, IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1)));
        let clients =
            Clients { dialer, endpoints, chance: Chance::new(seed, 6), judge: judge.clone() };
        for part in [Part::Controller, Part::Autoscaler] {
            fleet.add(part).await;
            fleet.add(part).await;
        }
        for _ in 0..3 {
            fleet.add(Part::Activator).await;
        }
        let world = Self {
            api,
            network,
            fleet,
            machines,
            clients,
            user,
            judge,
            story: story.clone(),
            wanted: Arc::default(),
            kept: Arc::default(),
            errands: Arc::default(),
        };
        tokio::spawn(world.clone().look());
        // The senders must live as long as the world.
        tokio::spawn(async move {
            futures::join!(fine.0.closed(), kube.0.closed());
        });
        world
    }

    /// The process of a part that holds the lease; any if none does.
    fn leader(&self, part: Part) -> Name {
        let names = self.fleet.names(part);
        let leads = names.iter().find(|name| self.judge.holds_lease(name));
        leads.or_else(|| names.first()).cloned().unwrap_or_else(|| "nobody".into())
    }

    /// Looks into the activators, for ever.
    async fn look(self) {
        for look in 0_u32.. {
            sleep(LOOK_EVERY).await;
            if look.is_multiple_of(ROOM_EVERY) {
                self.judge.look_at_room();
                self.judge.look_at_marks();
            }
            // Most of the time nobody waits.
            if !self.judge.is_asked() {
                continue;
            }
            for (name, activator) in self.fleet.activators() {
                self.judge.standing(&name, &activator.snapshot());
            }
        }
    }

    /// Does what a step of a plan says.
    pub(crate) async fn act(&self, act: Act) {
        match act {
            Act::Apply(wanted) => self.apply(wanted).await,
            Act::Delete(name) => self.delete(&name).await,
            // The judge looks at the outcomes.
            Act::Call(name, call) => _ = self.call(&name, call).await,
            Act::Configure(map, key, value) => self.configure(map, key, &value).await,
            Act::Break(fault) => self.breaks(fault).await,
        }
    }

    async fn apply(&self, wanted: Wanted) {
        self.wanted.lock().insert(wanted.name.clone(), wanted.clone());
        if wanted.habit == Habit::Broken {
            // For ever: traffic may be split, or stay with this Revision while newer ones fail.
            self.judge.disturb(What::Broken, format!("{NAMESPACE}/{}", wanted.name));
        }
        let applied = if wanted.is_pair {
            self.kept.lock().insert(wanted.name.clone());
            let [configuration, route] = manifests::pair(&wanted);
            let first = self.apply_one::<Configuration>(&wanted.name, configuration).await;
            first.and(self.apply_one::<Route>(&wanted.name, route).await)
        } else {
            self.apply_one::<Service>(&wanted.name, manifests::service(&wanted)).await
        };
        if let Err(error) = applied {
            self.story.tell(format!("{} is not applied: {error}", wanted.name));
        }
    }

    async fn apply_one<K>(&self, name: &str, manifest: Value) -> kube::Result<()>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let apply = PatchParams::apply("user").force();
        let objects: Api<K> = Api::namespaced(self.user.clone(), NAMESPACE);
        objects.patch(name, &apply, &Patch::Apply(manifest)).await.map(drop)
    }

    async fn delete(&self, name: &str) {
        self.judge.disturbed(What::Service, format!("{NAMESPACE}/{name}"));
        let was_pair = self.wanted.lock().remove(name).is_some_and(|wanted| wanted.is_pair);
        let now = DeleteParams::default();
        if was_pair {
            let routes: Api<Route> = Api::namespaced(self.user.clone(), NAMESPACE);
            drop(routes.delete(name, &now).await);
        } else {
            let services: Api<Service> = Api::namespaced(self.user.clone(), NAMESPACE);
            drop(services.delete(name, &now).await);
        }
    }

    async fn configure(&self, map: &str, key: &str, value: &str) {
        let maps: Api<ConfigMap> = Api::namespaced(self.user.clone(), SYSTEM_NAMESPACE);
        let patch = Patch::Merge(json!({"data": {key: value}}));
        drop(maps.patch(map, &PatchParams::default(), &patch).await);
    }

    /// Makes requests; true if all were answered 200.
    async fn call(&self, name: &str, call: Call) -> bool {
        let is_h2 = self.wanted.lock().get(name).is_some_and(|wanted| wanted.is_h2);
        let mut calls = JoinSet::new();
        let errands = (0..call.count).map(|_| self.errand(name, is_h2, call));
        if call.is_kept {
            calls.spawn(self.clients.clone().run(errands.collect()));
        } else {
            for errand in errands {
                calls.spawn(self.clients.clone().run(vec![errand]));
            }
        }
        calls.join_all().await.into_iter().all(|are_served| are_served)
    }

    fn errand(&self, name: &str, is_h2: bool, call: Call) -> Errand {
        let mut errands = self.errands.lock();
        *errands += 1;
        let service = name.to_owned();
        Errand { number: *errands, namespace: NAMESPACE, service, is_h2, call }
    }
}

/// What is there before the first process: settings with the shortest window.
async fn prepare(client: &Client) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let map = json!({
        "metadata": {"name": "config-autoscaler"},
        "data": {"stable-window": WINDOW, "scale-to-zero-grace-period": "1s"},
    });
    let map = serde_json::from_value(map).expect("a literal");
    maps.create(&PostParams::default(), &map).await.expect("the server is empty");
    let map = json!({"metadata": {"name": "config-domain"}, "data": {DOMAIN: ""}});
    let map = serde_json::from_value(map).expect("a literal");
    maps.create(&PostParams::default(), &map).await.expect("the server is empty");
}

/// Tells the judge of Revisions, Routes and pods without delay.
async fn follow(client: Client, judge: Judge) {
    let revisions = Api::<Revision>::all(client.clone());
    let routes = Api::<Route>::all(client.clone());
    let of_revisions = watcher::Config::default().labels(labels::REVISION);
    let mut pods = watcher(Api::<WatchedPod>::all(client), of_revisions).default_backoff().boxed();
    let mut revisions = watcher(revisions, watcher::Config::default()).default_backoff().boxed();
    let mut routes = watcher(routes, watcher::Config::default()).default_backoff().boxed();
    loop {
        use watcher::Event;
        tokio::select! {
            biased;
            Some(Ok(event)) = revisions.next() => match event {
                Event::Apply(revision) | Event::InitApply(revision) => judge.revision_applied(&revision),
                Event::Delete(revision) => judge.revision_deleted(&revision),
                Event::Init | Event::InitDone => {}
            },
            Some(Ok(event)) = routes.next() => match event {
                Event::Apply(route) | Event::InitApply(route) => judge.route_applied(&route, false),
                Event::Delete(route) => judge.route_applied(&route, true),
                Event::Init | Event::InitDone => {}
            },
            Some(Ok(event)) = pods.next() => match event {
                Event::Apply(pod) | Event::InitApply(pod) => judge.pod_applied(&pod),
                Event::Delete(pod) => judge.pod_deleted(&pod),
                Event::Init | Event::InitDone => {}
            },
        }
    }
}
