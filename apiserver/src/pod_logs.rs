//! The interface through which `kubectl logs` reaches the runner of the pods.

use bytes::Bytes;
use futures::stream::BoxStream;

use crate::failure::RequestFailure;

/// The part of a container's output that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Container; `None` asks for the only one.
    pub container: Option<String>,
    /// Go on with new output until the container ends or the stream is dropped.
    pub follow: bool,
    /// Output of the container's previous run.
    pub previous: bool,
    /// Begin each line with its RFC 3339 time.
    pub timestamps: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Stop after so many bytes.
    pub limit_bytes: Option<u64>,
    /// Only lines of the last so many seconds.
    pub since_seconds: Option<u64>,
}

/// Output of pods.
pub trait PodLogs: Send + Sync {
    /// Opens the output of a pod that exists. The stream may end at any time; dropping it must
    /// stop all work for it.
    ///
    /// # Errors
    ///
    /// A [`RequestFailure`] is sent to the caller as it is: 400 for a container that does not exist
    /// or has not started, 404 when its output is gone.
    fn open(
        &self,
        namespace: &str,
        pod: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Bytes>, RequestFailure>;
}

/// No logs: for tests and for clusters without a runner.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLogs;

// === impl NoLogs ===

impl PodLogs for NoLogs {
    fn open(
        &self,
        _: &str,
        _: &str,
        _: LogOptions,
    ) -> Result<BoxStream<'static, Bytes>, RequestFailure> {
        Err(RequestFailure::bad_request("nothing here keeps the logs of pods"))
    }
}
