//! The gRPC health protocol, by hand: one call with two tiny messages needs no generated code.
//!
//! `grpc.health.v1.Health/Check` takes `HealthCheckRequest { string service = 1; }` and gives
//! `HealthCheckResponse { ServingStatus status = 1; }`, where 1 is `SERVING`.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Most bytes of an answer, which is a handful.
const MOST_BYTES: usize = 1024;
/// Longest name of a service, which fits in one length byte; no health service has a longer one.
const LONGEST_SERVICE: usize = 127;
/// Tag and wire type of field 1, as a string and as a number.
const FIELD_1_STRING: u8 = 0x0a;
const FIELD_1_NUMBER: u8 = 0x08;
const SERVING: u8 = 1;
/// A message is preceded by a compression flag and four bytes of length.
const PREFIX_LENGTH: usize = 5;

/// Asks the server at the other end of `stream` for the health of `service`.
pub(super) async fn check(stream: TcpStream, service: &str) -> Result<(), String> {
    let request = Request::post("http://localhost/grpc.health.v1.Health/Check")
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(message(service)?))
        .map_err(|error| error.to_string())?;
    let failed = |error: hyper::Error| format!("gRPC health check: {error}");
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(failed)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        let headers = answer.headers().clone();
        let body = Limited::new(answer.into_body(), MOST_BYTES)
            .collect()
            .await
            .map_err(|error| format!("gRPC health check: {error}"))?;
        // If the call failed at once, the code stands in the headers instead.
        let trailers = body.trailers().unwrap_or(&headers);
        let code = trailers.get("grpc-status").and_then(|code| code.to_str().ok());
        match code {
            Some("0") => judge(&body.to_bytes()),
            code => {
                Err(format!("gRPC health check failed with code {}", code.unwrap_or("unknown")))
            }
        }
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(failed(error)),
        },
    }
}

fn message(service: &str) -> Result<Bytes, String> {
    if service.len() > LONGEST_SERVICE {
        return Err(format!("the gRPC service name {service} is too long"));
    }
    let length = u8::try_from(service.len()).unwrap_or_default();
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    if service.is_empty() {
        bytes.put_u32(0);
    } else {
        bytes.put_u32(u32::from(length) + 2);
        bytes.put_u8(FIELD_1_STRING);
        bytes.put_u8(length);
        bytes.put_slice(service.as_bytes());
    }
    Ok(bytes.freeze())
}

/// An empty message stands for status 0, unknown.
fn judge(answer: &[u8]) -> Result<(), String> {
    match answer.get(PREFIX_LENGTH..) {
        Some([FIELD_1_NUMBER, SERVING, ..]) => Ok(()),
        Some([FIELD_1_NUMBER, status, ..]) => {
            Err(format!("the gRPC service is not serving: status {status}"))
        }
        _ => Err("the gRPC service is not serving: status unknown".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{HeaderMap, HeaderValue, Response};
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use hyper::server::conn::http2 as server;
    use hyper::service::service_fn;
    use tokio::net::TcpListener;

    use super::*;

    async fn asked(service: &str, status: u8) -> Result<(), String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let expected = message(service).expect("it fits");
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a caller");
            let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                let expected = expected.clone();
                async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    let body = request.into_body().collect().await.expect("a body");
                    assert_eq!(body.to_bytes(), expected);
                    let trailers = HeaderMap::from_iter([(
                        "grpc-status".parse().expect("a name"),
                        HeaderValue::from_static("0"),
                    )]);
                    let message = Bytes::from(vec![0, 0, 0, 0, 2, FIELD_1_NUMBER, status]);
                    let frames = [Frame::data(message), Frame::trailers(trailers)];
                    let frames = frames.map(Ok::<_, Infallible>);
                    Ok::<_, Infallible>(Response::new(StreamBody::new(futures::stream::iter(
                        frames,
                    ))))
                }
            });
            let connection = server::Builder::new(TokioExecutor::new());
            // The caller hangs up when it has its answer.
            let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
        });
        let stream = TcpStream::connect(address).await.expect("it listens");
        check(stream, service).await
    }

    #[tokio::test]
    async fn a_serving_service_is_healthy() {
        assert_eq!(asked("", SERVING).await, Ok(()));
        assert_eq!(asked("model", SERVING).await, Ok(()));
    }

    #[tokio::test]
    async fn any_other_status_is_not() {
        let problem = asked("model", 2).await.expect_err("NOT_SERVING");
        assert!(problem.contains("status 2"), "{problem}");
        assert!(judge(&[0; PREFIX_LENGTH]).is_err());
    }
}
