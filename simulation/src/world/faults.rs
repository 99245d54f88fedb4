//! Carries out the faults of a plan.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::World;
use crate::api_link::{AtWrite, Weather};
use crate::judge::{ALL, What};
use crate::network::Name;
use crate::parts::Part;
use crate::plan::{Call, Fault, Slot};

/// Longest load on a revision with a pod that fails.
const SICK_LOAD: Duration = Duration::from_secs(8);
/// How long nobody hears of pods when a Service is made anew.
const REMADE_FOR: Duration = Duration::from_secs(4);
/// Pause between two requests of such a load.
const LOAD_EVERY: Duration = Duration::from_millis(40);
/// How long a process may take until the write at which it ends or stands still.
const WRITES_WITHIN: Duration = Duration::from_secs(30);

impl World {
    fn at(&self, slot: Slot) -> Option<Name> {
        let names = self.fleet.names(slot.0);
        (!names.is_empty()).then(|| names[slot.1 % names.len()].clone())
    }

    /// Breaks something, and mends it when its time is over.
    pub(super) async fn breaks(&self, fault: Fault) {
        match fault {
            Fault::Kill(slot, down) => {
                // One that is down already is started by the fault that ended it.
                let Some(name) = self.at(slot).filter(|name| self.fleet.runs(name)) else {
                    return;
                };
                self.story.tell(format!("{name} is killed, and started again after {down:?}"));
                self.fleet.kill(&name).await;
                sleep(down).await;
                self.fleet.start(&name).await;
            }
            Fault::KillAtWrite { slot, number, is_after, down } => {
                let Some(name) = self.at(slot) else { return };
                self.kill_at_write(&name, number, is_after, down).await;
            }
            Fault::KillAtMark(down) => self.kill_at_mark(down).await,
            Fault::Upgrade(slot) => {
                let Some(name) = self.at(slot) else { return };
                self.story.tell(format!("{name} is replaced"));
                self.fleet.upgrade(&name).await;
            }
            Fault::Pause(slot, time) => {
                let Some(name) = self.at(slot) else { return };
                self.story.tell(format!("{name} stands still for {time:?}"));
                self.pause(&name, time).await;
            }
            Fault::PauseAtWrite { slot, number, time } => {
                let Some(name) = self.at(slot) else { return };
                let stands = AtWrite::Stand;
                let write = self.fleet.at_write(&name, number, "", stands, WRITES_WITHIN).await;
                let Some(write) = write else { return };
                self.story.tell(format!("{name} stands still at {write} for {time:?}"));
                self.pause(&name, time).await;
            }
            Fault::Cut { from, to, both, time } => {
                let (Some(from), Some(to)) = (self.at(from), self.at(to)) else { return };
                if from != to {
                    self.cut(&from, &to, both, time).await;
                }
            }
            Fault::Lag { from, to, lag, time } => {
                let (Some(from), Some(to)) = (self.at(from), self.at(to)) else { return };
                self.lag(&from, &to, lag, time).await;
            }
            Fault::Sky(slot, weather, time) => {
                let Some(name) = self.at(slot) else { return };
                self.cloud(&[name], weather, time).await;
            }
            Fault::AllSkies(weather, time) => self.cloud_all(weather, time).await,
            Fault::Remake(index) => self.remake(index).await,
            Fault::CrashPod(..) | Fault::UnwellPod(..) | Fault::LosePod(_) | Fault::SickPod(..) => {
                self.pod(fault).await;
            }
            Fault::Clock { by, is_ahead, time } => {
                let fault = self.judge.disturb(What::Clock, ALL);
                ebb_clockwork::skew(by, is_ahead);
                sleep(time).await;
                ebb_clockwork::skew(by, !is_ahead);
                self.judge.settle(fault);
            }
        }
    }

    async fn pause(&self, name: &Name, time: Duration) {
        let fault = self.judge.disturb(What::Pause, name.clone());
        self.network.pause(name);
        sleep(time).await;
        self.network.resume(name);
        self.judge.settle(fault);
    }

    async fn kill_at_write(&self, name: &Name, number: u32, is_after: bool, down: Duration) {
        let killed = self.fleet.kill_at_write(name, number, is_after, WRITES_WITHIN).await;
        let Some(write) = killed else { return };
        let when = if is_after { "after" } else { "before" };
        let back = format!("and started again after {down:?}");
        self.story.tell(format!("{name} is killed {when} {write}, {back}"));
        sleep(down).await;
        self.fleet.start(name).await;
    }

    async fn kill_at_mark(&self, down: Duration) {
        let name = self.leader(Part::Autoscaler);
        let ends = AtWrite::EndAfter;
        let Some(write) = self.fleet.at_write(&name, 1, "/pods/", ends, WRITES_WITHIN).await else {
            return;
        };
        self.story.tell(format!("{name} is killed after {write}, and started after {down:?}"));
        self.fleet.kill(&name).await;
        sleep(down).await;
        self.fleet.start(&name).await;
    }

    async fn lag(&self, from: &Name, to: &Name, lag: Duration, time: Duration) {
        self.story.tell(format!("Bytes from {from} to {to} take {lag:?} for {time:?}"));
        let fault = self.judge.disturb(What::Link, format!("{from}~{to}"));
        self.network.lag(from, to, lag);
        sleep(time).await;
        self.network.quicken(from, to, lag);
        self.judge.settle(fault);
    }

    async fn cut(&self, from: &Name, to: &Name, both: bool, time: Duration) {
        let back = if both { " and back" } else { "" };
        self.story.tell(format!("The link from {from} to {to}{back} is cut for {time:?}"));
        let mut links = vec![(from, to)];
        links.extend(both.then_some((to, from)));
        let mut faults = Vec::new();
        for (from, to) in &links {
            self.network.cut(from, to);
            faults.push(self.judge.disturb(What::Link, format!("{from}>{to}")));
        }
        sleep(time).await;
        for ((from, to), fault) in links.into_iter().zip(faults) {
            self.network.heal(from, to);
            self.judge.settle(fault);
        }
    }

    async fn cloud_all(&self, weather: Weather, time: Duration) {
        let parts = [Part::Activator, Part::Autoscaler, Part::Controller];
        let all: Vec<_> = parts.into_iter().flat_map(|part| self.fleet.names(part)).collect();
        let blinds = matches!(
            weather,
            Weather::Stalled | Weather::StalledOne("pods") | Weather::Silent | Weather::Refuses
        );
        let fault = blinds.then(|| self.judge.disturb(What::Blindness, ALL));
        self.cloud(&all, weather, time).await;
        if let Some(fault) = fault {
            self.judge.settle(fault);
        }
    }

    async fn cloud(&self, names: &[Name], weather: Weather, time: Duration) {
        let whom = if names.len() == 1 { &*names[0] } else { ALL };
        self.story.tell(format!("The API server is {weather:?} for {whom} for {time:?}"));
        let what = match weather {
            Weather::StalledOne("pods") => What::PodWatch,
            Weather::Stalled | Weather::StalledOne(_) => What::Stall,
            _ => What::Api,
        };
        let fault = self.judge.disturb(what, whom);
        for name in names {
            self.fleet.cloud(name, weather);
        }
        sleep(time).await;
        for name in names {
            self.fleet.clear(name, weather);
        }
        self.judge.settle(fault);
        self.story.tell(format!("The API server is no longer {weather:?} for {whom}"));
    }

    /// Pods of the Service that was are not taken for those of its namesake.
    async fn remake(&self, index: usize) {
        let all: Vec<_> = self.wanted.lock().values().cloned().collect();
        if all.is_empty() {
            return;
        }
        let wanted = all[index % all.len()].clone();
        let activators = self.fleet.names(Part::Activator);
        let stall = self.cloud(&activators, Weather::StalledOne("pods"), REMADE_FOR);
        let remaking = async {
            sleep(Duration::from_millis(100)).await;
            self.story.tell(format!("{} is deleted and made anew", wanted.name));
            self.delete(&wanted.name).await;
            self.apply(wanted.clone()).await;
            self.load(&wanted.name, REMADE_FOR).await;
        };
        futures::join!(stall, remaking);
    }

    /// Short requests to a Service, one after the other.
    async fn load(&self, name: &str, time: Duration) {
        let call = Call::plain(1, Duration::from_millis(150));
        let mut calls = JoinSet::new();
        let begin = ebb_clockwork::elapsed();
        while ebb_clockwork::since(begin) < time {
            let (world, name) = (self.clone(), name.to_owned());
            calls.spawn(async move { world.call(&name, call).await });
            sleep(LOAD_EVERY).await;
        }
        calls.join_all().await;
    }

    async fn pod(&self, fault: Fault) {
        let pods = self.machines.running();
        let pick = |index: usize| (!pods.is_empty()).then(|| pods[index % pods.len()].clone());
        match fault {
            Fault::CrashPod(index, back_off) => {
                let Some(pod) = pick(index) else { return };
                self.machines.crash(pod, back_off).await;
            }
            Fault::UnwellPod(index, time) => {
                let Some(pod) = pick(index) else { return };
                self.machines.unwell(pod, time).await;
            }
            Fault::SickPod(index, time) => {
                let Some(pod) = pick(index) else { return };
                let sick = self.machines.sicken(pod.clone(), time);
                // Whoever fails fast is free again at once: does it attract the traffic?
                let load = self.load(&pod.service, time.min(SICK_LOAD));
                futures::join!(sick, load);
            }
            Fault::LosePod(index) => {
                let Some(pod) = pick(index) else { return };
                self.machines.lose(pod).await;
            }
            _ => {}
        }
    }
}
