//! Clients: a flood of uploads to one service, and ordinary requests to another beside it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use ebb_tests::client::Client;
use futures::future::join_all;
use hdrhistogram::Histogram;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Longest time for one upload, the wait for its model included.
const UPLOAD_TIMEOUT: Duration = Duration::from_mins(2);
/// Clients of the warm service at once.
const WARM_CLIENTS: usize = 4;

/// The gateway and the two services that the clients call.
pub(crate) struct Storm {
    pub(crate) gateway: SocketAddr,
    pub(crate) warm: String,
    pub(crate) cold: String,
}

/// The outcome of a flood.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    /// Answered 200.
    pub(crate) served: usize,
    /// Answered 503 with `retry-after`.
    pub(crate) refused: usize,
    /// Anything else.
    pub(crate) other: Vec<String>,
}

/// How the warm service answered.
#[derive(Debug)]
#[expect(dead_code, reason = "printed")]
pub(crate) struct Warm {
    pub(crate) served: u64,
    pub(crate) failed: u64,
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
}

// === impl Storm ===

impl Storm {
    /// Opens so many HTTP/2 connections, each with one upload of `bytes`.
    pub(crate) async fn flood(&self, connections: usize, bytes: usize) -> Flood {
        let body = Bytes::from(vec![b'x'; bytes]);
        let uploads = (0..connections).map(|_| timeout(UPLOAD_TIMEOUT, self.upload(body.clone())));
        let mut flood = Flood::default();
        for answer in join_all(uploads).await {
            match answer {
                Ok(Ok((200, _))) => flood.served += 1,
                Ok(Ok((503, true))) => flood.refused += 1,
                other if flood.other.len() < 5 => flood.other.push(format!("{other:?}")),
                _ => {}
            }
        }
        flood
    }

    /// Measures how long an upload of `bytes` to the warm service takes beside one of `held` bytes
    /// to the cold one, on the same HTTP/2 connection, while the held one waits.
    pub(crate) async fn beside(&self, held: usize, bytes: usize) -> anyhow::Result<Duration> {
        let (mut sender, connection) = self.connect().await?;
        let post = |host: &str, bytes| {
            let body = Full::new(Bytes::from(vec![b'x'; bytes]));
            Request::post(format!("http://{host}/echo")).body(body)
        };
        let held = tokio::spawn(sender.send_request(post(&self.cold, held)?));
        // By then as much of the held upload has been sent as may be.
        sleep(Duration::from_millis(500)).await;
        let begun = Instant::now();
        let response = sender.send_request(post(&self.warm, bytes)?).await?;
        ensure!(response.status() == 200, "{response:?}");
        let echoed = response.into_body().collect().await?.to_bytes();
        let took = begun.elapsed();
        ensure!(echoed.len() == bytes, "{} bytes of {bytes} came back", echoed.len());
        ensure!(!held.is_finished(), "the first was answered before the second");
        let response = held.await??;
        ensure!(response.status() == 200, "{response:?}");
        connection.abort();
        Ok(took)
    }

    async fn connect(&self) -> anyhow::Result<(SendRequest<Full<Bytes>>, JoinHandle<()>)> {
        let stream = TcpStream::connect(self.gateway).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        Ok((sender, tokio::spawn(async { drop(connection.await) })))
    }

    async fn upload(&self, body: Bytes) -> anyhow::Result<(u16, bool)> {
        let (mut sender, connection) = self.connect().await?;
        let request = Request::post(format!("http://{}/echo", self.cold));
        let request = request.body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        drop(response.into_body().collect().await);
        connection.abort();
        Ok((status.as_u16(), headers.contains_key("retry-after")))
    }

    /// Sends ordinary requests to the warm service, one after another from each client.
    pub(crate) async fn warm_for(&self, time: Duration) -> anyhow::Result<Warm> {
        let end = Instant::now() + time;
        let clients = (0..WARM_CLIENTS).map(|_| async move {
            let client = Client::new(self.gateway);
            let (mut times, mut failed) = (Histogram::<u64>::new(3)?, 0);
            while Instant::now() < end {
                let begun = Instant::now();
                let answer = client.get(&self.warm, "/").await;
                if answer.is_ok_and(|answer| answer.status == 200) {
                    times.record(u64::try_from(begun.elapsed().as_micros())?)?;
                } else {
                    failed += 1;
                }
            }
            Ok::<_, anyhow::Error>((times, failed))
        });
        let (mut all, mut failed) = (Histogram::<u64>::new(3)?, 0);
        for outcome in join_all(clients).await {
            let (times, more) = outcome?;
            all.add(&times)?;
            failed += more;
        }
        ensure!(!all.is_empty(), "the warm service answered nothing");
        let at = |quantile| Duration::from_micros(all.value_at_quantile(quantile));
        Ok(Warm { served: all.len(), failed, median: at(0.5), p99: at(0.99) })
    }
}
