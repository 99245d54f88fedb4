//! The API as it is on a network: every answer and every watch event takes a little while, a
//! different one each time, so that the parts see the world in ever different orders.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use ebb_apiserver::{ApiServer, ApiService};
use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use tower::Service;

use crate::seed::Chance;

/// Longest time that one step takes. More would only stretch the simulated time: it is enough that
/// a later event of one watch can overtake an earlier one of another.
const STEP_MS_MAX: u64 = 8;

/// A client of `api` whose every step takes a random while.
pub(crate) fn client(api: &ApiServer, chance: &Chance) -> kube::Client {
    let slow = Slow { inner: api.service("simulation"), chance: chance.clone() };
    kube::Client::new(slow, "default")
}

#[derive(Clone)]
struct Slow {
    inner: ApiService,
    chance: Chance,
}

impl Service<Request<Body>> for Slow {
    type Response = Response<UnsyncBoxBody<Bytes, Infallible>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (mut inner, chance) = (self.inner.clone(), self.chance.clone());
        Box::pin(async move {
            tokio::time::sleep(chance.between(0, STEP_MS_MAX)).await;
            let (parts, body) = inner.call(request).await?.into_parts();
            let chunks = body.into_data_stream().then(move |chunk| {
                let wait = chance.between(0, STEP_MS_MAX);
                async move {
                    tokio::time::sleep(wait).await;
                    chunk.map(Frame::<Bytes>::data)
                }
            });
            Ok(Response::from_parts(parts, StreamBody::new(chunks).boxed_unsync()))
        })
    }
}
