//! `config-autoscaler`. Defaults and bounds: knative/serving pkg/autoscaler/config/config.go.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ConfigError, Reader};
use crate::room_for::RoomFor;

pub(super) const MAP: &str = "config-autoscaler";

/// Cluster-wide settings of the autoscaler; most can be overridden by an annotation.
#[derive(Clone, Debug, PartialEq)]
pub struct AutoscalerConfig {
    /// Share of a concurrency target that is aimed at, in percent.
    pub target_percentage: f64,
    /// Concurrency target of a pod without a limit or annotation.
    pub concurrency_target_default: f64,
    /// Requests-per-second target of a pod without an annotation.
    pub rps_target_default: f64,
    /// Burst that must be absorbed without queueing; -1 for "always through the activator".
    pub target_burst_capacity: f64,
    /// The stable window: whole seconds in 6 s ..= 1 h.
    pub stable_window: Duration,
    /// The panic window, in percent of the stable window.
    pub panic_window_percentage: f64,
    /// Load over capacity at which panic begins, in percent.
    pub panic_threshold_percentage: f64,
    /// Largest factor by which one decision may raise the scale.
    pub max_scale_up_rate: f64,
    /// Largest factor by which one decision may lower the scale.
    pub max_scale_down_rate: f64,
    /// Whether a revision may lose its last replica.
    pub enable_scale_to_zero: bool,
    /// How long the machinery that wakes a revision must have been in place before its last
    /// replica goes.
    pub scale_to_zero_grace_period: Duration,
    /// How long the last replica is kept after it was decided to remove it.
    pub retention: Duration,
    /// Replicas that must be reached before a Revision is Ready.
    pub initial_scale: i32,
    /// Whether [`Self::initial_scale`] and its annotation may be 0.
    pub allow_zero_initial_scale: bool,
    /// Fewest replicas of a reachable revision.
    pub min_scale: i32,
    /// Most replicas; 0 means no limit.
    pub max_scale: i32,
    /// Largest max-scale that an annotation may ask for; 0 means no limit.
    pub max_scale_limit: i32,
    /// How long a lower decision must hold before it is followed.
    pub scale_down_delay: Duration,
    /// Resources for which idle replicas are let go when a pod finds none.
    pub make_room_for: RoomFor,
    /// How long a replica that is ready stays at least before it is let go so.
    pub make_room_residency: Duration,
    /// How long a request waits at least beside models in use until one of those gets no new request;
    /// 0 for ever.
    pub make_room_turn: Duration,
}

impl Default for AutoscalerConfig {
    fn default() -> Self {
        Self {
            target_percentage: 70.0,
            concurrency_target_default: 100.0,
            rps_target_default: 200.0,
            target_burst_capacity: 211.0,
            stable_window: Duration::from_mins(1),
            panic_window_percentage: 10.0,
            panic_threshold_percentage: 200.0,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            enable_scale_to_zero: true,
            scale_to_zero_grace_period: Duration::from_secs(30),
            retention: Duration::ZERO,
            initial_scale: 1,
            allow_zero_initial_scale: false,
            min_scale: 0,
            max_scale: 0,
            max_scale_limit: 0,
            scale_down_delay: Duration::ZERO,
            make_room_for: RoomFor::default(),
            make_room_residency: Duration::from_secs(2),
            make_room_turn: Duration::from_secs(30),
        }
    }
}

impl AutoscalerConfig {
    /// The settings of that map. What it does not say is Knative's default, or the `base`'s where local
    /// mode has one of its own.
    pub(super) fn parse(base: &Self, data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let read = Reader { map: MAP, data };
        let mut config = Self { make_room_for: base.make_room_for.clone(), ..Self::default() };
        read.set("container-concurrency-target-percentage", &mut config.target_percentage)?;
        // Knative takes a fraction here as well as a percentage.
        if config.target_percentage <= 1.0 {
            config.target_percentage *= 100.0;
        }
        read.set("container-concurrency-target-default", &mut config.concurrency_target_default)?;
        read.set("requests-per-second-target-default", &mut config.rps_target_default)?;
        read.set("target-burst-capacity", &mut config.target_burst_capacity)?;
        read.set_duration("stable-window", &mut config.stable_window)?;
        read.set("panic-window-percentage", &mut config.panic_window_percentage)?;
        read.set("panic-threshold-percentage", &mut config.panic_threshold_percentage)?;
        read.set("max-scale-up-rate", &mut config.max_scale_up_rate)?;
        read.set("max-scale-down-rate", &mut config.max_scale_down_rate)?;
        read.set("enable-scale-to-zero", &mut config.enable_scale_to_zero)?;
        read.set_duration("scale-to-zero-grace-period", &mut config.scale_to_zero_grace_period)?;
        read.set_duration("scale-to-zero-pod-retention-period", &mut config.retention)?;
        read.set("initial-scale", &mut config.initial_scale)?;
        read.set("allow-zero-initial-scale", &mut config.allow_zero_initial_scale)?;
        read.set("min-scale", &mut config.min_scale)?;
        read.set("max-scale", &mut config.max_scale)?;
        read.set("max-scale-limit", &mut config.max_scale_limit)?;
        read.set_duration("scale-down-delay", &mut config.scale_down_delay)?;
        if let Some(text) = read.text("make-room-for") {
            let room_for =
                text.parse().map_err(|error| read.error("make-room-for", format!("{error}")));
            config.make_room_for = room_for?;
        }
        read.set_duration("make-room-residency", &mut config.make_room_residency)?;
        read.set_duration("make-room-turn", &mut config.make_room_turn)?;
        config.check(&read)?;
        Ok(config)
    }

    fn check(&self, read: &Reader<'_>) -> Result<(), ConfigError> {
        let window = self.stable_window;
        read.require(
            self.target_percentage > 0.0 && self.target_percentage <= 100.0,
            "container-concurrency-target-percentage",
            "must be in (0, 100]",
        )?;
        read.require(
            self.concurrency_target_default >= 0.01,
            "container-concurrency-target-default",
            "must be at least 0.01",
        )?;
        read.require(
            self.rps_target_default >= 0.01,
            "requests-per-second-target-default",
            "must be at least 0.01",
        )?;
        read.require(
            self.target_burst_capacity >= 0.0 || (self.target_burst_capacity + 1.0).abs() < 1e-9,
            "target-burst-capacity",
            "must be 0 or more, or -1",
        )?;
        read.require(
            window >= Duration::from_secs(6)
                && window <= Duration::from_hours(1)
                && window.subsec_nanos() == 0,
            "stable-window",
            "must be whole seconds from 6s to 1h",
        )?;
        read.require(
            (1.0..=100.0).contains(&self.panic_window_percentage),
            "panic-window-percentage",
            "must be in [1, 100]",
        )?;
        read.require(self.max_scale_up_rate > 1.0, "max-scale-up-rate", "must be above 1.0")?;
        read.require(self.max_scale_down_rate > 1.0, "max-scale-down-rate", "must be above 1.0")?;
        read.require(
            !self.scale_to_zero_grace_period.is_zero(),
            "scale-to-zero-grace-period",
            "must be above 0s",
        )?;
        self.check_scales(read)
    }

    fn check_scales(&self, read: &Reader<'_>) -> Result<(), ConfigError> {
        read.require(
            self.initial_scale > 0 || (self.initial_scale == 0 && self.allow_zero_initial_scale),
            "initial-scale",
            "must be 1 or more, or 0 with allow-zero-initial-scale",
        )?;
        read.require(self.min_scale >= 0, "min-scale", "must be 0 or more")?;
        read.require(
            self.max_scale >= 0 && (self.max_scale == 0 || self.max_scale >= self.min_scale),
            "max-scale",
            "must be 0, or at least min-scale",
        )?;
        read.require(self.max_scale_limit >= 0, "max-scale-limit", "must be 0 or more")
    }
}
