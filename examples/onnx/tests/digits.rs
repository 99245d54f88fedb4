//! The committed model behind the real routes: it must read digits it has never seen.

#![allow(clippy::unwrap_used, reason = "a helper that fails has failed its test")]

use std::path::Path;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use ebb_onnx::model::Model;
use ebb_onnx::server::{self, BODY_BYTES_MAX, ServerLimits};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;

#[derive(Deserialize)]
struct Sample {
    label: i64,
    pixels: Vec<u8>,
}

fn samples() -> Vec<Sample> {
    serde_json::from_str(include_str!("../models/digits-test.json")).unwrap()
}

fn digits() -> Router {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/digits.onnx");
    let model = Model::load("digits", &file).unwrap();
    server::router(vec![model], ServerLimits { concurrency: 2, body_bytes: BODY_BYTES_MAX })
}

async fn infer(router: &Router, body: String) -> Value {
    let request = Request::post("/v2/models/digits/infer").body(Body::from(body)).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer
}

fn request(samples: &[&Sample]) -> String {
    let pixels: Vec<&[u8]> = samples.iter().map(|sample| sample.pixels.as_slice()).collect();
    let shape = [samples.len(), 64];
    json!({"inputs": [{"name": "pixels", "shape": shape, "datatype": "FP32", "data": pixels}]})
        .to_string()
}

/// The data of one output.
fn data<T: for<'de> Deserialize<'de>>(answer: &Value, output: &str) -> Vec<T> {
    let outputs = answer["outputs"].as_array().unwrap();
    let found = outputs.iter().find(|found| found["name"] == output).unwrap();
    Vec::<T>::deserialize(&found["data"]).unwrap()
}

#[tokio::test]
async fn at_least_95_of_100_unseen_digits_are_read_right() {
    let (router, samples) = (digits(), samples());
    assert!(samples.len() >= 360, "the committed test digits are not all there");
    let all: Vec<&Sample> = samples.iter().collect();
    let answer = infer(&router, request(&all)).await;

    let read: Vec<i64> = data(&answer, "digit");
    let right = samples.iter().zip(&read).filter(|(sample, read)| sample.label == **read).count();
    assert_eq!(read.len(), samples.len());
    assert!(right * 100 >= samples.len() * 95, "{right} of {} are right", samples.len());

    let probabilities: Vec<f64> = data(&answer, "probabilities");
    assert_eq!(probabilities.len(), samples.len() * 10);
    for (row, digit) in probabilities.chunks(10).zip(&read) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-4, "{row:?} does not sum to one");
        let most = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        assert_eq!(i64::try_from(most).unwrap(), *digit);
    }
}

#[tokio::test]
async fn a_digit_is_read_the_same_alone_and_in_batches_of_any_size() {
    let (router, samples) = (digits(), samples());
    let mut alone: Vec<f64> = Vec::new();
    for sample in &samples[..7] {
        alone.extend(data::<f64>(&infer(&router, request(&[sample])).await, "probabilities"));
    }
    for size in [2, 3, 7] {
        let batch: Vec<&Sample> = samples[..size].iter().collect();
        let together: Vec<f64> = data(&infer(&router, request(&batch)).await, "probabilities");
        for (one, other) in alone.iter().zip(&together) {
            assert!((one - other).abs() < 1e-5, "batch of {size}: {one} and {other}");
        }
        assert_eq!(together.len(), size * 10);
    }
}

#[tokio::test]
async fn the_ready_made_request_shows_a_seven() {
    let answer = infer(&digits(), include_str!("../seven.json").to_owned()).await;
    assert_eq!(answer["id"], "a-seven");
    assert_eq!(data::<i64>(&answer, "digit"), [7]);
}
