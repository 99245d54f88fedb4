//! The bare hyper pass-through: no routes, no limits, no metrics. It shows the least that a proxy
//! costs.

use std::net::SocketAddr;

use http::uri::Scheme;
use http::{Request, Uri};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};

/// Listens on a free port, prints its address, and sends everything to `to` until it is killed.
pub(crate) async fn run(to: SocketAddr) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    crate::say(&format!("{}\n", listener.local_addr()?));
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = client.clone();
        tokio::spawn(async move {
            let forward = service_fn(move |mut request: Request<Incoming>| {
                let client = client.clone();
                async move {
                    *request.uri_mut() = absolute(to, request.uri())?;
                    client.request(request).await.map_err(anyhow::Error::from)
                }
            });
            let served = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), forward)
                .await;
            // The load generator closes its connections when it is done.
            drop(served);
        });
    }
}

fn absolute(to: SocketAddr, uri: &Uri) -> anyhow::Result<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(to.to_string().parse()?);
    Ok(Uri::from_parts(parts)?)
}
