//! One question to a container: HTTP, TCP, gRPC or a command in it.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;

use crate::command;
use crate::mounts::is_program;
use crate::process::Launch;
use crate::status::LOOPBACK;

use super::grpc;

/// Kubelet's name for itself.
const USER_AGENT: &str = "kube-probe/1.36";

/// Bytes kept of the output of a command; kubelet's limit.
const SAID_BYTES_MAX: usize = 10 * 1024;

/// The question of a probe or hook, ready to be asked again and again.
#[derive(Debug, Clone)]
pub(crate) enum ProbeAction {
    Http {
        address: String,
        authority: String,
        path: String,
        headers: Vec<(String, String)>,
    },
    Tcp {
        address: String,
    },
    Grpc {
        address: String,
        service: String,
    },
    Exec {
        command: Vec<String>,
    },
    /// Only as a hook.
    Sleep(Duration),
}

/// The container that is asked: what a command in it runs with.
#[derive(Debug, Clone)]
pub(crate) struct ProbeTarget {
    launch: Launch,
    /// The container's first process, whose mounts a command sees.
    leader: i32,
}

// === impl ProbeAction ===

impl ProbeAction {
    pub(super) fn of(probe: &Probe, container: &Container) -> Option<Self> {
        if let Some(http) = &probe.http_get {
            return Self::http(http, container);
        }
        if let Some(tcp) = &probe.tcp_socket {
            let host = tcp.host.as_deref().filter(|host| !host.is_empty());
            let port = number(&tcp.port, container)?;
            return Some(Self::Tcp { address: format!("{}:{port}", host.unwrap_or(LOOPBACK)) });
        }
        if let Some(grpc) = &probe.grpc {
            return Some(Self::Grpc {
                address: format!("{LOOPBACK}:{}", grpc.port),
                service: grpc.service.clone().unwrap_or_default(),
            });
        }
        let command = probe.exec.as_ref()?.command.clone()?;
        Some(Self::Exec { command })
    }

    /// The action of a lifecycle hook.
    pub(crate) fn of_hook(hook: &LifecycleHandler, container: &Container) -> Option<Self> {
        if let Some(sleep) = &hook.sleep {
            let seconds = u64::try_from(sleep.seconds).unwrap_or_default();
            return Some(Self::Sleep(Duration::from_secs(seconds)));
        }
        if let Some(http) = &hook.http_get {
            return Self::http(http, container);
        }
        let command = hook.exec.as_ref()?.command.clone()?;
        Some(Self::Exec { command })
    }

    fn http(http: &HTTPGetAction, container: &Container) -> Option<Self> {
        let host = http.host.as_deref().filter(|host| !host.is_empty());
        let address = format!("{}:{}", host.unwrap_or(LOOPBACK), number(&http.port, container)?);
        let mut authority = address.clone();
        let mut headers = Vec::new();
        for given in http.http_headers.iter().flatten() {
            if given.name.eq_ignore_ascii_case("host") {
                authority.clone_from(&given.value);
            } else {
                headers.push((given.name.clone(), given.value.clone()));
            }
        }
        let path = http.path.as_deref().unwrap_or_default();
        Some(Self::Http {
            address,
            authority,
            path: format!("/{}", path.trim_start_matches('/')),
            headers,
        })
    }

    /// Asks; an error says what is wrong. Has no time limit, and stops when dropped.
    pub(crate) async fn perform(&self, target: &ProbeTarget) -> Result<(), String> {
        match self {
            Self::Http { address, authority, path, headers } => {
                get(address, authority, path, headers).await
            }
            Self::Tcp { address } => connect(address).await.map(drop),
            Self::Grpc { address, service } => grpc::check(connect(address).await?, service).await,
            Self::Exec { command } => target.execute(command).await,
            Self::Sleep(time) => {
                tokio::time::sleep(*time).await;
                Ok(())
            }
        }
    }
}

// === impl ProbeTarget ===

impl ProbeTarget {
    pub(crate) fn new(launch: Launch, leader: i32) -> Self {
        Self { launch, leader }
    }

    pub(super) fn replica(&self) -> &str {
        &self.launch.replica
    }

    /// Runs a command with the container's environment and directory.
    async fn execute(&self, words: &[String]) -> Result<(), String> {
        let Launch { line, variables, entry, .. } = &self.launch;
        let container = Container { command: Some(words.to_vec()), ..Container::default() };
        let surroundings = command::Surroundings {
            beside: std::env::current_exe()
                .ok()
                .and_then(|exe| exe.parent().map(std::path::Path::to_path_buf)),
            directory: line.directory.clone(),
            inherited: std::collections::BTreeMap::new(),
        };
        let plan = entry.as_ref().map(|entry| &entry.plan);
        let is_program = |path: &Path| match plan {
            Some(plan) => is_program(plan, path),
            None => command::is_program(path),
        };
        let entry = match entry {
            Some(entry) => {
                let joining = entry.joining(self.leader);
                Some(Arc::new(joining.ok_or("the container's mounts have no name")?))
            }
            None => None,
        };
        let line = command::resolve(&container, variables, &surroundings, is_program)
            .map_err(|error| error.to_string())?;
        let launch = Launch { line, entry, ..self.launch.clone() };
        let failed = |error: std::io::Error| error.to_string();
        let mut command = launch.command();
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        if let (Some(group), Some(pid)) = (&launch.group, pid) {
            group.admit(pid);
        }
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (status, stdout, stderr) =
            tokio::join!(child.wait(), beginning(stdout), beginning(stderr));
        let status = status.map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        let said = [stdout, stderr].concat();
        let said = String::from_utf8_lossy(&said[..said.len().min(SAID_BYTES_MAX)]);
        Err(format!("{status}: {}", said.trim_end()))
    }
}

/// The first [`SAID_BYTES_MAX`] bytes of an output, which is read to its end: a program whose
/// output is not read would stand still.
async fn beginning(output: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut said = Vec::new();
    if let Some(output) = output {
        let mut output = BufReader::new(output);
        // An output that cannot be read counts as ended.
        let first = (&mut output).take(SAID_BYTES_MAX as u64).read_to_end(&mut said).await;
        drop(first);
        drop(tokio::io::copy_buf(&mut output, &mut tokio::io::sink()).await);
    }
    said
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    TcpStream::connect(address)
        .await
        .map_err(|error| format!("cannot connect to {address}: {error}"))
}

async fn get(
    address: &str,
    authority: &str,
    path: &str,
    headers: &[(String, String)],
) -> Result<(), String> {
    let mut request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("the probe makes no request: {error}"))?;
    let stream = connect(address).await?;
    let failed = |error: hyper::Error| format!("GET http://{address}{path}: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        // As kubelet: any status from 200 up to 399 is a success.
        let status = answer.status();
        if status.is_success() || status.is_redirection() {
            Ok(())
        } else {
            Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
        }
    };
    // Both in this future: dropping it closes the connection, and no task is left behind.
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(failed(error)),
        },
    }
}

/// A port by number or by the name of one of the container's.
fn number(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let ports = container.ports.as_ref().into_iter().flatten();
            let named = ports
                .filter(|port| port.name.as_ref() == Some(name))
                .find_map(|port| u16::try_from(port.container_port).ok());
            named.or_else(|| name.parse().ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn answer(response: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind((LOOPBACK, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.expect("a request");
            let text = String::from_utf8_lossy(&request[..read]).into_owned();
            stream.write_all(response.as_bytes()).await.expect("sent");
            text
        };
        let headers = [("x-probe".to_owned(), "1".to_owned())];
        let (outcome, request) = tokio::join!(get(&address, "name", "/healthz", &headers), server);
        assert!(request.starts_with("GET /healthz HTTP/1.1\r\nhost: name\r\n"), "{request}");
        assert!(request.contains("x-probe: 1"), "{request}");
        outcome
    }

    #[tokio::test]
    async fn an_http_status_decides() {
        let answers = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true),
            ("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", true),
            ("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", false),
            ("nonsense\r\n\r\n", false),
        ];
        for (response, expected) in answers {
            let outcome = answer(response).await;
            assert_eq!(outcome.is_ok(), expected, "{response}: {outcome:?}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_names_the_address() {
        let listener = TcpListener::bind((LOOPBACK, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        drop(listener);
        let problem = connect(&address).await.expect_err("nobody listens");
        assert!(problem.contains(&address), "{problem}");
    }

    /// A probe that prints without end must not take memory without end.
    #[tokio::test]
    async fn only_the_beginning_of_a_commands_output_is_kept() {
        let line = command::CommandLine {
            program: "/bin/sh".into(),
            args: Vec::new(),
            directory: "/".into(),
        };
        let target = ProbeTarget::new(
            Launch {
                entry: None,
                line,
                variables: std::collections::BTreeMap::new(),
                instance: "test".to_owned(),
                replica: "test".to_owned(),
                group: None,
            },
            0,
        );
        let script = "head -c 50000000 /dev/zero | tr '\\0' x; echo problem >&2; exit 3";
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        let problem = target.execute(&words).await.expect_err("it exits with 3");
        assert!(problem.starts_with("exit status: 3: xxx"), "{}", &problem[..40]);
        assert!(problem.len() < 2 * SAID_BYTES_MAX, "{} bytes", problem.len());
        let words = ["/bin/sh", "-c", "echo problem >&2; exit 4"].map(str::to_owned);
        assert_eq!(target.execute(&words).await, Err("exit status: 4: problem".to_owned()));
    }

    #[test]
    fn a_named_port_is_looked_up() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "ports": [{"name": "user-port", "containerPort": 41001}],
        }))
        .expect("a container");
        let named = |name: &str| number(&IntOrString::String(name.to_owned()), &container);
        assert_eq!(named("user-port"), Some(41_001));
        assert_eq!(named("9000"), Some(9000));
        assert_eq!(named("other"), None);
    }
}
