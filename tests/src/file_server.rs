//! A web server with one file, which counts what it is asked for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server; dropping it ends it.
#[derive(Debug)]
pub struct FileServer {
    address: SocketAddr,
    name: String,
    requests: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl FileServer {
    /// Serves `content` under `/name`, and 404 everywhere else.
    pub async fn start(at: IpAddr, name: &str, content: Vec<u8>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((at, 0)).await?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicUsize::new(0));
        let (counted, path, content) =
            (Arc::clone(&requests), format!("/{name}"), Bytes::from(content));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (counted, path, content) = (counted.clone(), path.clone(), content.clone());
                let answer = service_fn(move |request: Request<Incoming>| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let found = request.uri().path() == path;
                    let (status, body) = if found {
                        (StatusCode::OK, content.clone())
                    } else {
                        (StatusCode::NOT_FOUND, Bytes::new())
                    };
                    let response = Response::builder()
                        .status(status)
                        .header(header::ETAG, "\"one\"")
                        .body(Full::new(body));
                    std::future::ready(response)
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Ok(Self { address, name: name.to_owned(), requests, serving })
    }

    /// The URL of the file.
    pub fn url(&self) -> String {
        format!("http://{}/{}", self.address, self.name)
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
