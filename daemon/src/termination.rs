//! An orderly end: the first signal starts the drain, the second ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit status after a second signal: 128 + SIGINT, as a shell would show it.
pub const FORCED_EXIT: i32 = 130;

/// SIGINT and SIGTERM of this process.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes both signals over from the default action, which would end the process at once.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next of them. Cancel-safe.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Cancels `shutdown` at the first signal and runs `forced` at the second.
    pub async fn drive(mut self, shutdown: CancellationToken, forced: impl FnOnce()) {
        self.next().await;
        shutdown.cancel();
        self.next().await;
        forced();
    }
}
