//! vLLM's sleep: the weights are given up and fetched again, and nothing is answered in between.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::server::Service;
use crate::settings::ChatSettings;

/// The memory that stands for the weights, while the model is awake.
#[derive(Debug)]
pub struct Weights {
    bytes: usize,
    wake_time: Duration,
    held: Mutex<Option<Vec<u8>>>,
}

// === impl Weights ===

impl Weights {
    /// Weights of the size in the settings, in memory.
    pub fn load(settings: &ChatSettings) -> Self {
        let bytes = usize::from(settings.weights_mib) << 20;
        Self { bytes, wake_time: settings.wake_time, held: Mutex::new(Some(filled(bytes))) }
    }

    /// Whether they are given up.
    pub fn are_asleep(&self) -> bool {
        self.held.lock().is_none()
    }

    /// Gives them up.
    pub fn sleep(&self) {
        *self.held.lock() = None;
    }

    /// Fetches them again, which takes its time.
    pub async fn wake(&self) {
        if self.are_asleep() {
            tokio::time::sleep(self.wake_time).await;
            let weights = filled(self.bytes);
            self.held.lock().get_or_insert(weights);
        }
    }
}

/// Of ones, for zeros would be pages that take no memory.
fn filled(bytes: usize) -> Vec<u8> {
    vec![1; bytes]
}

/// `POST /wake_up`.
pub async fn wake_up(State(service): State<Service>) {
    service.weights().wake().await;
}

/// `GET /is_sleeping`.
pub async fn is_sleeping(State(service): State<Service>) -> Json<Value> {
    Json(json!({"is_sleeping": service.weights().are_asleep()}))
}
