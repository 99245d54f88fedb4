//! Every route of the protocol and every refusal, as a client sees them: status and exact text.

#![allow(clippy::unwrap_used, reason = "a helper that fails has failed its test")]

use std::convert::Infallible;
use std::path::Path;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use ebb_onnx::model::{LoadError, Model};
use ebb_onnx::server::{self, ServerLimits, WAITING_PER_RUNNING};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

/// Small enough to exceed in a test.
const BODY_BYTES: usize = 300_000;

fn model(name: &str) -> Model {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits.onnx");
    Model::load(name, &file).unwrap()
}

fn server() -> Router {
    let limits = ServerLimits { concurrency: 1, body_bytes: BODY_BYTES };
    server::router(vec![model("digits"), model("other")], limits)
}

async fn ask(router: &Router, method: &str, path: &str, body: Body) -> (StatusCode, Bytes) {
    let request = Request::builder().method(method).uri(path).body(body).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    (response.status(), response.into_body().collect().await.unwrap().to_bytes())
}

async fn get(path: &str) -> (StatusCode, Value) {
    let (status, bytes) = ask(&server(), "GET", path, Body::empty()).await;
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn infer(body: impl Into<Body>) -> (StatusCode, Value) {
    let (status, bytes) = ask(&server(), "POST", "/v2/models/digits/infer", body.into()).await;
    (status, serde_json::from_slice(&bytes).unwrap())
}

/// A request of one input, changed by `change`.
fn request(change: impl FnOnce(&mut Value)) -> String {
    let input =
        json!({"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": vec![0.5; 64]});
    let mut body = json!({ "inputs": [input] });
    change(&mut body);
    body.to_string()
}

async fn assert_refused(body: String, status: StatusCode, sentence: &str) {
    assert_eq!(infer(body).await, (status, json!({ "error": sentence })));
}

#[tokio::test]
async fn health_and_readiness_answer_200_with_an_empty_body() {
    for path in [
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/digits/ready",
        "/v2/models/digits/versions/1/ready",
    ] {
        let answer = ask(&server(), "GET", path, Body::empty()).await;
        assert_eq!(answer, (StatusCode::OK, Bytes::new()), "{path}");
    }
}

#[tokio::test]
async fn metadata_describes_server_and_model() {
    let version = env!("CARGO_PKG_VERSION");
    let server = json!({"name": "ebb-onnx", "version": version, "extensions": []});
    assert_eq!(get("/v2").await, (StatusCode::OK, server));

    let model = json!({
        "name": "digits",
        "versions": ["1"],
        "platform": "onnx_tract",
        "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
            {"name": "digit", "datatype": "INT64", "shape": [-1]},
        ],
    });
    assert_eq!(get("/v2/models/digits").await, (StatusCode::OK, model.clone()));
    assert_eq!(get("/v2/models/digits/versions/1").await, (StatusCode::OK, model));
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405() {
    for (path, sentence) in [
        ("/v2/models/no", "there is no model `no`; the models here are `digits`, `other`"),
        ("/v2/models/no/ready", "there is no model `no`; the models here are `digits`, `other`"),
        ("/v2/models/digits/versions/2", "model `digits` has no version `2`; it has version 1"),
        (
            "/v2/models/digits/versions/2/ready",
            "model `digits` has no version `2`; it has version 1",
        ),
        ("/v1/models", "there is no route `/v1/models`; the routes begin with /v2"),
    ] {
        assert_eq!(get(path).await, (StatusCode::NOT_FOUND, json!({ "error": sentence })));
    }
    let path = "/v2/models/digits/infer";
    let sentence =
        format!("`{path}` does not take GET; infer takes POST, all other routes take GET");
    assert_eq!(get(path).await, (StatusCode::METHOD_NOT_ALLOWED, json!({ "error": sentence })));
    let missing = ask(&server(), "POST", "/v2/models/no/infer", Body::empty()).await;
    assert_eq!(missing.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_inference_echoes_the_id_and_gives_the_outputs_asked_for() {
    let body = request(|body| {
        body["id"] = "42".into();
        body["parameters"] = json!({"trace": true});
        body["outputs"] = json!([{"name": "digit", "parameters": {}}]);
    });
    let (status, answer) = infer(body).await;
    assert_eq!(status, StatusCode::OK);
    let output = json!([{"name": "digit", "datatype": "INT64", "shape": [1],
        "data": answer["outputs"][0]["data"]}]);
    assert_eq!(
        answer,
        json!({"model_name": "digits", "model_version": "1", "id": "42", "outputs": output})
    );

    let (status, answer) = infer(request(|_| {})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer.get("id"), None);
    assert_eq!(answer["outputs"][0]["name"], "probabilities");
    assert_eq!(answer["outputs"][1]["name"], "digit");
}

#[tokio::test]
async fn data_may_be_flat_or_nested_and_come_before_its_datatype() {
    let flat = infer(request(|_| {})).await;
    let nested = infer(request(|body| {
        body["inputs"][0]["data"] = json!([vec![0.5; 64]]);
    }))
    .await;
    assert_eq!(flat.0, StatusCode::OK);
    assert_eq!(flat, nested);
    let data = vec!["0.5"; 64].join(",");
    let turned = format!(
        r#"{{"inputs":[{{"data":[{data}],"datatype":"FP32","shape":[1,64],"name":"pixels"}}]}}"#
    );
    assert_eq!(infer(turned).await, flat);
}

#[tokio::test]
async fn names_that_the_model_does_not_have_are_refused() {
    let bad = StatusCode::BAD_REQUEST;
    let none = request(|body| body["inputs"] = json!([]));
    assert_refused(none, bad, "input `pixels` is missing").await;
    let other = request(|body| body["inputs"][0]["name"] = "x".into());
    assert_refused(other, bad, "the model has no input `x`; its inputs are `pixels`").await;
    let twice = request(|body| {
        let input = body["inputs"][0].clone();
        body["inputs"] = json!([input, input]);
    });
    assert_refused(twice, bad, "input `pixels` is there twice").await;
    let output = request(|body| body["outputs"] = json!([{"name": "x"}]));
    let sentence = "the model has no output `x`; its outputs are `probabilities`, `digit`";
    assert_refused(output, bad, sentence).await;
    let twice = request(|body| body["outputs"] = json!([{"name": "digit"}, {"name": "digit"}]));
    assert_refused(twice, bad, "output `digit` is asked for twice").await;
}

#[tokio::test]
async fn datatypes_and_shapes_that_do_not_fit_are_refused() {
    let bad = StatusCode::BAD_REQUEST;
    let datatype = request(|body| body["inputs"][0]["datatype"] = "INT64".into());
    assert_refused(datatype, bad, "input `pixels` takes FP32, not INT64").await;
    for unsupported in ["BYTES", "BF16", "fp32"] {
        let body = request(|body| {
            body["inputs"][0]["datatype"] = unsupported.into();
            body["inputs"][0]["data"] = json!(["text"]);
        });
        let sentence = format!(
            "datatype `{unsupported}` is not supported by this server; input `pixels` takes FP32"
        );
        assert_refused(body, bad, &sentence).await;
    }
    for shape in ["[64]", "[1, 63]", "[1, 64, 1]", "[0, 64]", "[]"] {
        let body = request(|body| body["inputs"][0]["shape"] = shape.parse().unwrap());
        let sentence =
            format!("input `pixels` takes shape [-1, 64] where -1 is any size from 1, not {shape}");
        assert_refused(body, bad, &sentence).await;
    }
    let large = request(|body| body["inputs"][0]["shape"] = json!([1025, 64]));
    let sentence = "input `pixels` has a batch of 1025, and at most 1024 are taken at once";
    assert_refused(large, bad, sentence).await;
}

#[tokio::test]
async fn data_that_does_not_fit_its_shape_or_datatype_is_refused() {
    let bad = StatusCode::BAD_REQUEST;
    let short = request(|body| body["inputs"][0]["data"] = json!([1.0, 2.0]));
    assert_refused(short, bad, "input `pixels` has 2 values, which do not fill shape [1, 64]")
        .await;
    let turned = request(|body| body["inputs"][0]["data"] = json!(vec![[1]; 64]));
    let sentence =
        "input `pixels` has data nested as [64, 1], which is neither flat nor shape [1, 64]";
    assert_refused(turned, bad, sentence).await;
    let null = request(|body| body["inputs"][0]["data"][3] = Value::Null);
    let sentence = "input `pixels`: value 3 is null, which FP32 cannot hold; \
                    NaN and infinities have no form in JSON";
    assert_refused(null, bad, sentence).await;
    let large = request(|body| body["inputs"][0]["data"][0] = json!(1e300));
    assert_refused(large, bad, "input `pixels`: value 0 is 1e300, which FP32 cannot hold").await;
}

#[tokio::test]
async fn what_is_no_inference_request_is_refused() {
    for (body, reason) in [
        ("", "EOF while parsing a value"),
        ("{}", "missing field `inputs`"),
        ("[NaN]", "expected value"),
        (r#"{"inputs":[{"name":"pixels","shape":[-1]}]}"#, "invalid value: integer `-1`"),
        (r#"{"inputs":[{"name":"pixels","data":[NaN]}]}"#, "expected value"),
        (r#"{"inputs":[{"data":[[1],[2,3]]}]}"#, "data has nested arrays of different lengths"),
    ] {
        let (status, answer) = infer(body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let sentence = answer["error"].as_str().unwrap();
        let begin = format!("the body is not an inference request: {reason}");
        assert!(sentence.starts_with(&begin), "{body}: {sentence}");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_before_it_is_read_to_its_end() {
    let (status, answer) = infer(endless()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let sentence = "the body is larger than 300000 bytes; send fewer inputs or raise --max-body";
    assert_eq!(answer, json!({ "error": sentence }));
}

/// A body that never ends.
fn endless() -> Body {
    let chunk = Bytes::from_static(&[b' '; 4096]);
    Body::from_stream(futures::stream::repeat_with(move || Ok::<_, Infallible>(chunk.clone())))
}

/// A body that never sends anything.
fn silence() -> Body {
    Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>())
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_places_are_refused_and_a_silent_client_gives_its_place_back() {
    let router = server();
    let places = 1 + WAITING_PER_RUNNING;
    let silent = || ask(&router, "POST", "/v2/models/digits/infer", silence());
    let mut waiting: Vec<_> = (0..places).map(|_| Box::pin(silent())).collect();
    for request in &mut waiting {
        assert!(futures::poll!(request.as_mut()).is_pending());
    }
    let (status, body) = silent().await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    let sentence = "17 requests are being served or wait already; try again later";
    assert_eq!(body, json!({ "error": sentence }).to_string().as_bytes());

    for request in waiting {
        let (status, body) = request.await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
        let sentence = "the body did not arrive within 30 seconds";
        assert_eq!(body, json!({ "error": sentence }).to_string().as_bytes());
    }
    let body = Body::from(request(|_| {}));
    assert_eq!(ask(&router, "POST", "/v2/models/digits/infer", body).await.0, StatusCode::OK);
}

#[test]
fn a_file_that_is_no_model_is_refused_with_its_name() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("train.py");
    let error = Model::load("x", &file).unwrap_err();
    assert!(matches!(error, LoadError::Parse { .. }), "{error}");
    assert!(error.to_string().contains("train.py"), "{error}");
}
