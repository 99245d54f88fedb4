//! A client of HTTP/1.1 on one connection at a time, which does what the protocol asks of a client:
//! it sends no request on a connection that was closed, nor on one whose answer said
//! `connection: close`. It sends no request a second time.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::outcome::Outcome;

/// Longest time for one request, the start of a pod included: as long as an activator of the test
/// cluster lets a request go on when it ends.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// Largest answer that is read: a receipt and its headers are a few KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The label of a new connection that was closed before a byte of the request was written.
const CLOSED: &str = "new connection closed";

/// What is asked, of whom.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) service: String,
    pub(crate) host: String,
    /// The request's number, which the answer has to repeat.
    pub(crate) number: u64,
    /// How long the model is to take.
    pub(crate) wait_ms: u64,
    /// The body of a POST; without one it is a GET.
    pub(crate) body: Option<String>,
}

/// An outcome, and how it came about.
pub(crate) struct Told {
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
    /// Whether the kept connection was closed before the request was written, and another was made.
    pub(crate) redialled: bool,
    /// The client's port, and how many requests the connection had carried before.
    pub(crate) connection: String,
}

/// A client of one gateway.
#[derive(Debug)]
pub(crate) struct Caller {
    gateway: SocketAddr,
    line: Option<Line>,
}

/// An open connection.
#[derive(Debug)]
struct Line {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
    port: u16,
    answered: u64,
}

/// What the backend's `/receipt` says.
#[derive(Deserialize)]
struct Receipt {
    service: String,
    revision: String,
    method: String,
    query: String,
    body: String,
}

/// Why a connection did not take a request.
enum Refusal {
    /// Closed before a byte of the request was written.
    Closed,
    Failed(Outcome),
}

impl Caller {
    /// A client without a connection.
    pub(crate) fn new(gateway: SocketAddr) -> Self {
        Self { gateway, line: None }
    }

    /// Closes the connection.
    pub(crate) fn hang_up(&mut self) {
        self.line = None;
    }

    /// Requests that the open connection has carried.
    pub(crate) fn answered(&self) -> u64 {
        self.line.as_ref().map_or(0, |line| line.answered)
    }

    /// Asks, and waits for the outcome.
    pub(crate) async fn ask(&mut self, question: &Question) -> Told {
        let began = Instant::now();
        let (mut redialled, mut connection) = (false, String::new());
        let asked = self.until_written(question, &mut redialled, &mut connection);
        let outcome = timeout_at(began + REQUEST_TIMEOUT, asked).await;
        let outcome = outcome.unwrap_or_else(|_| {
            let detail = format!("nothing within {REQUEST_TIMEOUT:?}");
            Outcome::failed("timeout", detail)
        });
        Told { outcome, took: began.elapsed(), redialled, connection }
    }

    async fn until_written(
        &mut self,
        question: &Question,
        redialled: &mut bool,
        connection: &mut String,
    ) -> Outcome {
        loop {
            // The line stays with this call: one that fails or is given up is not used again.
            let mut line = match self.line.take() {
                Some(line) => line,
                None => match Line::open(self.gateway).await {
                    Ok(line) => line,
                    Err(outcome) => return outcome,
                },
            };
            *connection = format!("port {}, request {}", line.port, line.answered + 1);
            match line.ask(question).await {
                Ok((outcome, is_last)) => {
                    line.answered += 1;
                    self.line = (!is_last).then_some(line);
                    return outcome;
                }
                Err(Refusal::Failed(outcome)) => return outcome,
                // A kept connection may end between two requests. One that was just accepted was
                // made for this one.
                Err(Refusal::Closed) if line.answered == 0 => {
                    return Outcome::failed(CLOSED, "accepted, and closed without an answer");
                }
                Err(Refusal::Closed) => *redialled = true,
            }
        }
    }
}

impl Line {
    async fn open(gateway: SocketAddr) -> Result<Self, Outcome> {
        let stream =
            TcpStream::connect(gateway).await.map_err(|e| Outcome::broken("connect", &e))?;
        let port = stream.local_addr().map_or(0, |address| address.port());
        // Without it the end of a small body may wait for an acknowledgement.
        stream.set_nodelay(true).map_err(|error| Outcome::broken("connect", &error))?;
        let shaken = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|e| Outcome::broken("connect", &e))?;
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { sender, driver, port, answered: 0 })
    }

    /// The outcome, and whether the answer said that it was the last on this connection.
    async fn ask(&mut self, question: &Question) -> Result<(Outcome, bool), Refusal> {
        let request = question
            .request()
            .map_err(|error| Refusal::Failed(Outcome::failed("no request", error.to_string())))?;
        if self.sender.ready().await.is_err() {
            return Err(Refusal::Closed);
        }
        let response = match self.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                return Err(match error.take_message() {
                    Some(_) => Refusal::Closed,
                    None => Refusal::Failed(Outcome::broken("no answer", error.error())),
                });
            }
        };
        let (parts, body) = response.into_parts();
        let is_last = says_close(&parts.headers);
        let outcome = judge(question, parts.status, &parts.headers, body).await;
        Ok((outcome, is_last))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Question {
    fn query(&self) -> String {
        format!("n={}&ms={}", self.number, self.wait_ms)
    }

    fn method(&self) -> Method {
        if self.body.is_some() { Method::POST } else { Method::GET }
    }

    fn request(&self) -> http::Result<Request<Full<Bytes>>> {
        Request::builder()
            .method(self.method())
            .uri(format!("/receipt?{}", self.query()))
            .header(header::HOST, &self.host)
            .body(Full::new(Bytes::from(self.body.clone().unwrap_or_default())))
    }

    /// The request in words, for a person who looks for its cause.
    pub(crate) fn words(&self, connection: &str) -> String {
        format!("{} {} ?{} on {connection}", self.method(), self.service, self.query())
    }

    /// What is wrong with an answer of status 200, if something is.
    fn wrong(&self, body: &[u8]) -> Option<&'static str> {
        let Ok(receipt) = serde_json::from_slice::<Receipt>(body) else {
            return Some("no receipt");
        };
        let wrong = [
            (receipt.service != self.service, "another service"),
            (receipt.revision != format!("{}-00001", self.service), "another revision"),
            (receipt.method != self.method().as_str(), "another method"),
            (receipt.query != self.query(), "another request"),
            (receipt.body != self.body.as_deref().unwrap_or_default(), "another body"),
        ];
        wrong.into_iter().find_map(|(is_wrong, what)| is_wrong.then_some(what))
    }
}

async fn judge(
    question: &Question,
    status: StatusCode,
    headers: &HeaderMap,
    body: Incoming,
) -> Outcome {
    let waited = headers.contains_key("server-timing");
    let body = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Outcome::broken("answer cut off", error.as_ref()),
    };
    if status != StatusCode::OK {
        let error = headers.get("ebb-error").and_then(|error| error.to_str().ok());
        let label = format!("{} {}", status.as_u16(), error.unwrap_or("without ebb-error"));
        return Outcome::failed(label, String::from_utf8_lossy(&body));
    }
    match question.wrong(&body) {
        None => Outcome::served(waited),
        Some(what) => Outcome::failed(format!("200 of {what}"), String::from_utf8_lossy(&body)),
    }
}

fn says_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).into_iter();
    let mut words = values.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    words.any(|word| word.trim().eq_ignore_ascii_case("close"))
}

#[cfg(test)]
mod tests {
    use ebb_tests::ports::free_address;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each request with the next of these texts; the one after the last is not read.
    async fn server(answers: Vec<String>) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            let mut answers = answers.into_iter().peekable();
            while answers.peek().is_some() {
                let (mut stream, _) = listener.accept().await?;
                let mut head = [0; 1024];
                while stream.read(&mut head).await? > 0 {
                    let answer = answers.next().unwrap_or_default();
                    stream.write_all(answer.as_bytes()).await?;
                    if answer.is_empty() || answer.contains("close") {
                        break;
                    }
                }
            }
            std::io::Result::Ok(())
        });
        Ok(address)
    }

    fn question() -> Question {
        let (service, host) = ("plain".to_owned(), "plain.example".to_owned());
        Question { service, host, number: 3, wait_ms: 0, body: None }
    }

    fn answer(service: &str, headers: &str) -> String {
        let body = format!(
            r#"{{"service":"{service}","revision":"plain-00001","method":"GET","query":"n=3&ms=0","body":""}}"#
        );
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
    }

    async fn labels(answers: Vec<String>, asked: usize) -> anyhow::Result<Vec<String>> {
        let mut caller = Caller::new(server(answers).await?);
        let mut labels = Vec::new();
        for _ in 0..asked {
            labels.push(caller.ask(&question()).await.outcome.label);
        }
        Ok(labels)
    }

    #[tokio::test]
    async fn only_the_right_answer_of_the_right_service_has_succeeded() -> anyhow::Result<()> {
        let refused = "HTTP/1.1 503 X\r\nebb-error: overloaded\r\ncontent-length: 0\r\n\r\n";
        let broken = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nfour";
        let other = answer("plain", "").replace("n=3", "n=4");
        let answers = [
            answer("plain", ""),
            answer("other", ""),
            other,
            refused.to_owned(),
            broken.to_owned(),
        ];
        let labels = labels(answers.to_vec(), 5).await?;
        let expected =
            ["200", "200 of another service", "200 of another request", "503 overloaded"];
        assert_eq!(labels[..4], expected);
        assert!(labels[4].starts_with("answer cut off"), "{}", labels[4]);
        Ok(())
    }

    #[tokio::test]
    async fn an_announced_end_loses_nothing_and_a_silent_one_is_counted() -> anyhow::Result<()> {
        let last = answer("plain", "connection: close\r\n");
        let answers = vec![last, answer("plain", ""), String::new()];
        assert_eq!(labels(answers, 3).await?, ["200", "200", "no answer: closed"]);
        Ok(())
    }

    #[tokio::test]
    async fn a_new_connection_that_is_closed_is_a_failure_and_a_kept_one_is_made_anew()
    -> anyhow::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut caller = Caller::new(listener.local_addr()?);
        let served = tokio::spawn(async move {
            // The first answers once and closes, the second is closed at once.
            let (mut stream, _) = listener.accept().await?;
            assert!(stream.read(&mut [0; 1024]).await? > 0);
            stream.write_all(answer("plain", "").as_bytes()).await?;
            drop(stream);
            listener.accept().await?;
            std::io::Result::Ok(())
        });
        assert_eq!(caller.ask(&question()).await.outcome.label, "200");
        // Until the end of the first connection has arrived.
        while caller.line.as_ref().is_some_and(|line| !line.sender.is_closed()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut line = Line::open(caller.gateway).await.map_err(|_| anyhow::anyhow!("refused"))?;
        while !line.sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        served.await??;
        let closed = line.ask(&question()).await;
        assert!(matches!(closed, Err(Refusal::Closed)));
        // No third connection is taken: the kept one is made anew, once.
        let told = caller.ask(&question()).await;
        assert_eq!(
            (told.redialled, told.outcome.label.as_str()),
            (true, "connect: connection refused")
        );
        caller.line = Some(line);
        let told = caller.ask(&question()).await;
        assert_eq!((told.redialled, told.outcome.label.as_str()), (false, CLOSED));
        Ok(())
    }

    #[tokio::test]
    async fn a_connection_that_is_refused_is_counted() -> anyhow::Result<()> {
        let free = free_address();
        let outcome = Caller::new(free).ask(&question()).await.outcome;
        assert_eq!(outcome.label, "connect: connection refused");
        Ok(())
    }
}
