//! What the tests share: the real `ebb` as a process, the real `kubectl`, an HTTP client.

#![allow(clippy::missing_panics_doc, reason = "to panic is how a test says no")]

pub mod binaries;
pub mod client;
pub mod ebb;
pub mod file_server;
pub mod incarnations;
pub mod kubectl;
pub mod manifest;
pub mod nft;
pub mod ports;
pub mod processes;
pub mod sdk;

use std::time::Duration;

use tokio::time::Instant;

/// Longest wait in a test that is not about time: generous, because the machines that run tests are
/// small and busy. A test that waits for a condition ends as soon as it holds.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Calls `ask` until it returns an answer; panics with `what` after [`PATIENCE`].
pub async fn eventually<T, F, Fut>(what: &str, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not come about within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
