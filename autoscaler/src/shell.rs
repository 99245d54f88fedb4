//! The shell: watches, the intake, the clock and the writer around a [`Fleet`].

use std::sync::Arc;
use std::time::Duration;

use ebb_api::config::Config;
use ebb_api::report::DrainOrder;
use ebb_daemon::lease::Epoch;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::activators::ReporterPod;
use crate::calls::StandbyCalls;
use crate::event::{Action, FleetEvent};
use crate::fleet::Fleet;
use crate::intake::{Intake, Reports, intake};
use crate::measures::Gauges;
use crate::notices::Notices;
use crate::sizes::FleetSizes;
use crate::watches;
use crate::writer::{Attempt, DecisionWriter, Outcome};

/// How long writes under way may take to end after a shutdown was asked for.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Brings drain orders to the activators.
pub trait DrainControl: Send + Sync {
    /// Hands an order to every activator and returns at once. An order is complete for its
    /// revision: only the newest has to arrive, and an activator that connects later needs it too.
    /// It is repeated every two seconds while it names any pod.
    fn drain(&self, order: DrainOrder);

    /// Ends the stream of that activator, so that its next one begins with a full report. Does
    /// nothing where every report is a full one.
    fn begin_anew(&self, activator: &str) {
        let _ = activator;
    }

    /// From now on orders are given in this term; those given before are to be forgotten.
    fn lead(&self, epoch: Option<Epoch>) {
        let _ = epoch;
    }
}

/// How the autoscaler knows which activators there are. No scale is lowered while one is not heard.
#[derive(Clone, Debug)]
pub enum Roster {
    /// By their pods, which have the names that they report under.
    Pods {
        /// Where they are.
        namespace: String,
        /// Label selector that matches these pods and no others.
        selector: String,
    },
    /// By composition: these and no others, for as long as the process lives.
    Fixed(Vec<String>),
}

/// What an autoscaler needs.
pub struct AutoscalerOptions {
    /// The API server.
    pub client: Client,
    /// The cluster's settings.
    pub config: watch::Receiver<Arc<Config>>,
    /// Which activators there are.
    pub activators: Roster,
    /// The way to the activators.
    pub drains: Arc<dyn DrainControl>,
    /// After how long an Event tells of a scale that is held up by an activator that is not heard.
    pub unheard_notice: Duration,
    /// The term in which this autoscaler leads; `None` if it does not lead: it then keeps up with
    /// the load and writes nothing.
    pub leads: watch::Receiver<Option<Epoch>>,
}

/// The autoscaler of a whole cluster.
pub struct Autoscaler {
    client: Client,
    config: watch::Receiver<Arc<Config>>,
    activators: Roster,
    drains: Arc<dyn DrainControl>,
    leads: watch::Receiver<Option<Epoch>>,
    fleet: Fleet,
    reports: Reports,
    writer: DecisionWriter,
    calls: StandbyCalls,
    notices: Notices,
    gauges: Gauges,
    asked: mpsc::Receiver<oneshot::Sender<FleetSizes>>,
}

/// Asks a running autoscaler how much it keeps; cheap to clone.
#[derive(Clone, Debug)]
pub struct SizeReader(mpsc::Sender<oneshot::Sender<FleetSizes>>);

// === impl SizeReader ===

impl SizeReader {
    /// How much the autoscaler keeps; `None` once it has ended.
    pub async fn read(&self) -> Option<FleetSizes> {
        let (answer, sizes) = oneshot::channel();
        self.0.send(answer).await.ok()?;
        sizes.await.ok()
    }
}

// === impl Roster ===

impl Roster {
    /// Says which activators there are, again at each change. Never ends.
    fn watch(&self, client: Client) -> BoxStream<'static, FleetEvent> {
        match self {
            Self::Pods { namespace, selector } => {
                watches::activators(client, namespace, selector).boxed()
            }
            Self::Fixed(names) => {
                let all = names.iter().map(|name| (name.clone(), ReporterPod::Running)).collect();
                let once = futures::stream::once(std::future::ready(FleetEvent::Activators(all)));
                once.chain(futures::stream::pending()).boxed()
            }
        }
    }
}

// === impl Autoscaler ===

impl Autoscaler {
    /// An autoscaler that is not running yet, and the intake for what activators report. Its
    /// metrics go to the registry.
    pub fn new(options: AutoscalerOptions, registry: &mut Registry) -> (Self, Intake) {
        let AutoscalerOptions { client, mut config, activators, drains, unheard_notice, leads } =
            options;
        let gauges = Gauges::register(registry);
        let (intake, reports) = intake(gauges.reports_merged());
        let current = Arc::clone(&config.borrow_and_update());
        let autoscaler = Self {
            writer: DecisionWriter::new(client.clone()),
            calls: StandbyCalls::new(client.clone()),
            notices: Notices::new(client.clone(), gauges.notices_dropped()),
            client,
            config,
            activators,
            drains,
            leads,
            fleet: Fleet::new(current, unheard_notice, Instant::now()),
            reports,
            gauges,
            // Nobody asks until there is a reader.
            asked: mpsc::channel(1).1,
        };
        (autoscaler, intake)
    }

    /// A reader of how much it keeps, in the place of an earlier one. An answer takes a look at
    /// each revision; nothing is counted without a reader.
    pub fn size_reader(&mut self) -> SizeReader {
        // Questions wait for each other.
        let (ask, asked) = mpsc::channel(1);
        self.asked = asked;
        SizeReader(ask)
    }

    /// Runs until `shutdown`, then lets the writes under way end. Dropping the future instead loses
    /// nothing but those: all its state can be had again from the API and the reports.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut targets = watches::targets(self.client.clone());
        let mut pods = watches::pods(self.client.clone());
        let mut activators = self.activators.watch(self.client.clone());
        let (mut is_open, mut is_contested) = (true, true);
        self.on_leads(true);
        loop {
            let deadline = self.fleet.deadline();
            let is_listed = self.fleet.is_listed();
            // In this order: a lost lead must be known before anything else, and the activators
            // there are before their reports. Writes under way are few and short, and a report may
            // be a cold start; none of them can come so fast that the rest starves.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                new = self.leads.changed(), if is_contested => {
                    is_contested = self.on_leads(new.is_ok());
                }
                Some(event) = activators.next() => self.step(event),
                Some(attempt) = self.writer.next() => self.on_attempt(attempt),
                Some(answer) = self.calls.next() => self.step(FleetEvent::Answered(answer)),
                report = self.reports.next(), if is_listed => self.step(FleetEvent::Report(report)),
                Some(event) = targets.next() => self.step(event),
                Some(event) = pods.next() => self.step(event),
                new = self.config.changed(), if is_open => is_open = self.on_config(new.is_ok()),
                Some(answer) = self.asked.recv() => {
                    // Who asked may be gone.
                    answer.send(self.sizes()).ok();
                }
                () = sleep_until(deadline) => self.step(FleetEvent::Tick),
            }
        }
        self.finish().await;
    }

    fn sizes(&self) -> FleetSizes {
        FleetSizes { writing: self.writer.len(), ..self.fleet.sizes() }
    }

    fn step(&mut self, event: FleetEvent) {
        let now = Instant::now();
        let actions = self.fleet.step(event, now);
        for action in actions {
            match action {
                Action::Drain(order) => self.drains.drain(order),
                Action::BeginAnew(activator) => self.drains.begin_anew(&activator),
                Action::Write(write) => self.writer.submit(*write),
                Action::Call(call) => self.calls.begin(*call),
                Action::Measure(key, measures) => {
                    self.gauges.show(&key, &measures, || self.fleet.labels(&key));
                }
                Action::Notice(notice) => self.notices.tell(*notice),
                Action::Forget(key) => {
                    self.writer.forget(&key);
                    self.gauges.forget(&key);
                }
            }
        }
        self.gauges.count_faults(self.fleet.faults());
        self.gauges.show_hearing(self.fleet.unheard(now), self.fleet.held());
        self.gauges.show_room(self.fleet.lacking(), self.fleet.let_go());
    }

    fn on_attempt(&mut self, attempt: Attempt) {
        match self.writer.settle(attempt) {
            Outcome::Written(key, seen) => {
                self.gauges.count_write(true);
                self.step(FleetEvent::Written { key, seen });
            }
            Outcome::Refused(key) => {
                self.gauges.count_write(false);
                self.step(FleetEvent::Refused(key));
            }
            Outcome::Failed => self.gauges.count_write(false),
            Outcome::Pending => {}
        }
    }

    /// Follows changed settings; false once there will be no more changes.
    fn on_config(&mut self, is_open: bool) -> bool {
        if is_open {
            let config = Arc::clone(&self.config.borrow_and_update());
            self.step(FleetEvent::Config(config));
        }
        is_open
    }

    /// Follows the election; false once it is over, and its last result stands.
    fn on_leads(&mut self, is_open: bool) -> bool {
        let leads = *self.leads.borrow_and_update();
        // A decision of another term is not written in this one.
        self.writer.drop_all();
        self.calls.drop_all();
        self.drains.lead(leads);
        self.step(FleetEvent::Leads(leads));
        is_open
    }

    /// Lets the writes end that were decided on, for as long as this autoscaler leads.
    async fn finish(mut self) {
        // Nobody would go by their answers; the next leader goes by the marks.
        self.calls.drop_all();
        let rest = async {
            let mut is_contested = true;
            loop {
                tokio::select! {
                    biased;
                    new = self.leads.changed(), if is_contested => match new {
                        Ok(()) => self.writer.drop_all(),
                        // There is no election, or the election ends with this process.
                        Err(_) => is_contested = false,
                    },
                    attempt = self.writer.next() => match attempt {
                        Some(attempt) => drop(self.writer.settle(attempt)),
                        None => return,
                    },
                }
            }
        };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, rest).await.is_err() {
            tracing::warn!("Some scales were not written before the shutdown");
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
