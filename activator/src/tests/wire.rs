//! Clients and pods that care about every byte.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Collected, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;

use super::fixture::{Handler, World, reply};

impl World {
    /// An HTTP/2 connection of a client, with the windows that `builder` sets.
    pub(super) async fn connect_h2<B>(
        &self,
        builder: &http2::Builder<TokioExecutor>,
    ) -> http2::SendRequest<B>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (sender, connection) = builder.handshake(TokioIo::new(self.dial())).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

/// A body whose parts are sent by hand, and which ends when the sender is dropped.
pub(super) fn by_hand() -> (mpsc::Sender<Bytes>, BoxBody<Bytes, io::Error>) {
    let (parts, mut receiver) = mpsc::channel(1);
    let stream = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (parts, BodyExt::boxed(StreamBody::new(stream.map(|part| Ok(Frame::data(part))))))
}

/// Reads the request to its end and answers with its length.
pub(super) fn measure() -> Handler {
    Arc::new(|request| {
        Box::pin(async move {
            let body = request.into_body().collect().await.map(Collected::to_bytes);
            reply(body.unwrap_or_default().len().to_string())
        })
    })
}
