//! A real sentence model, as its manifest deploys it: all-MiniLM-L6-v2 on onnxruntime, behind the models
//! host. In local mode alone, for the cluster of the tests has no image of it.

use anyhow::Context as _;
use ebb_tests::client::Answer;
use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::example;
use ebb_tests::sdk::told_by;
use serde_json::{Value, json};

mod alone;

const MODEL: &str = "all-minilm-l6-v2";
const PATH: &str = "/v1/embeddings";
const DIMENSIONS: usize = 384;
/// Two of one meaning, and one of another.
const SENTENCES: [&str; 3] =
    ["A man is eating food.", "Someone is having a meal.", "The stock market fell sharply today."];
/// How the vector of the first begins with the model's own weights, computed from them apart, in 32 bits.
const REFERENCE: [f64; 8] =
    [0.03324, 0.00441, -0.00628, 0.04838, -0.13870, -0.03362, 0.10113, -0.05438];
/// What weights in eight bits change: the most was 0.0064 in four sentences.
const ROUNDING: f64 = 0.01;
/// Padding and the order of sums change no more than the last digits.
const SAME: f64 = 1e-4;

/// Ebb with the model, ready; it falls asleep after 6 s.
async fn deployed() -> anyhow::Result<Ebb> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&example("embeddings")?.replace("window: 30s", "window: 6s")).await?;
    kubectl.wait_ready("embeddings").await?;
    Ok(ebb)
}

async fn ask(ebb: &Ebb, body: &Value) -> anyhow::Result<Answer> {
    ebb.client().post(&ebb.models_host(), PATH, body.to_string().into()).await
}

/// The answer that must be one.
async fn embed(ebb: &Ebb, input: &Value) -> anyhow::Result<Value> {
    let answer = ask(ebb, &json!({"model": MODEL, "input": input})).await?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// The vectors of an answer, in their order.
fn vectors(answer: &Value) -> anyhow::Result<Vec<Vec<f64>>> {
    let data = answer["data"].as_array().context("no data")?;
    for (index, each) in data.iter().enumerate() {
        assert_eq!((&each["index"], &each["object"]), (&index.into(), &"embedding".into()));
    }
    data.iter().map(|each| numbers(&each["embedding"])).collect()
}

fn numbers(value: &Value) -> anyhow::Result<Vec<f64>> {
    let numbers = value.as_array().with_context(|| format!("no vector: {value}"))?;
    numbers.iter().map(|number| number.as_f64().context("no number")).collect()
}

/// The cosine, as the vectors have length 1.
fn nearness(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn assert_same(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < SAME), "{a:?}\n{b:?}");
}

#[tokio::test]
async fn a_sleeping_sentence_model_wakes_and_tells_meanings_apart() -> anyhow::Result<()> {
    let ebb = deployed().await?;
    ebb.kubectl().wait_asleep("embeddings").await;
    let body = json!({"model": MODEL, "input": SENTENCES});
    let answer = ask(&ebb, &body).await?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let timing = answer.headers["server-timing"].to_str()?;
    assert!(timing.contains("queue;dur="), "it was asleep: {timing}");
    let answer = answer.json()?;
    assert_eq!((&answer["object"], &answer["model"]), (&"list".into(), &MODEL.into()));
    let found = vectors(&answer)?;
    assert_eq!(found.len(), SENTENCES.len());
    for vector in &found {
        assert_eq!(vector.len(), DIMENSIONS);
        assert!((nearness(vector, vector) - 1.0).abs() < SAME, "its length is not 1");
    }
    for (number, reference) in found[0].iter().zip(REFERENCE) {
        assert!((number - reference).abs() < ROUNDING, "{:?}", &found[0][..REFERENCE.len()]);
    }
    let (like, unlike) = (nearness(&found[0], &found[1]), nearness(&found[0], &found[2]));
    assert!(like > 0.5 && unlike < 0.2, "{like} for one meaning, {unlike} for two");
    // Texts of other lengths beside it are filled up, and change nothing.
    for (sentence, vector) in SENTENCES.iter().zip(&found) {
        assert_same(&vectors(&embed(&ebb, &json!(sentence)).await?)?[0], vector);
    }
    // More than one run takes, in an order that is not that of their lengths.
    let many: Vec<_> = (0..60).map(|index| "word ".repeat((index * 37) % 240 + 1)).collect();
    let all = vectors(&embed(&ebb, &json!(many)).await?)?;
    for index in [0, 7, 41, 59] {
        assert_same(&vectors(&embed(&ebb, &json!([many[index]])).await?)?[0], &all[index]);
    }
    ebb.kubectl().wait_asleep("embeddings").await;
    Ok(())
}

#[tokio::test]
async fn usage_counts_the_tokens_of_all_texts_and_what_is_wrong_is_said() -> anyhow::Result<()> {
    let ebb = deployed().await?;
    // Each text has a token at its start and one at its end; "embeddings" is em ##bed ##ding ##s.
    for (input, tokens) in [
        (json!("hello world"), 4),
        (json!(["hello world", "embeddings"]), 10),
        // The longest text that the model reads.
        (json!("word ".repeat(254)), 256),
    ] {
        let usage = &embed(&ebb, &input).await?["usage"];
        assert_eq!(usage, &json!({"prompt_tokens": tokens, "total_tokens": tokens}));
    }
    let empty: [&str; 0] = [];
    let bad = [
        (
            json!({"input": "word ".repeat(255)}),
            "input",
            "input 0 has 257 tokens and this model reads 256",
        ),
        (json!({"input": ["a", ""]}), "input", "input 1 is no text, or an empty one"),
        (json!({"input": empty}), "input", "a list of 1 to 2048 texts"),
        (json!({"input": [[1, 2]]}), "input", "send the texts themselves"),
        (json!({"input": vec!["a"; 2049]}), "input", "send 2048 at once"),
        (json!({"input": vec!["word ".repeat(250); 270]}), "input", "send 65536 at once"),
        (json!({}), "input", "input is a text"),
        (json!({"input": "a", "dimensions": 64}), "dimensions", "have 384 dimensions"),
        (json!({"input": "a", "encoding_format": "hex"}), "encoding_format", "float or base64"),
    ];
    for (mut body, param, message) in bad {
        body["model"] = MODEL.into();
        let answer = ask(&ebb, &body).await?;
        assert_eq!(answer.status, 400, "{param}: {}", answer.text);
        let error = &answer.json()?["error"];
        assert_eq!(
            (&error["type"], &error["param"]),
            (&"invalid_request_error".into(), &param.into())
        );
        assert!(error["message"].as_str().is_some_and(|said| said.contains(message)), "{error}");
    }
    // At the Service's own host, Ebb does not look for the model's name, nor at the body.
    let own = ebb.host("embeddings");
    for (body, status, code) in [
        (json!({"model": "nobody", "input": "a"}).to_string(), 404, json!("model_not_found")),
        ("{".to_owned(), 400, Value::Null),
        (format!("\"{}\"", "a".repeat(3 << 20)), 413, Value::Null),
    ] {
        let answer = ebb.client().post(&own, PATH, body.into()).await?;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(answer.json()?["error"]["code"], code, "{}", answer.text);
    }
    // What was refused has left its connections usable.
    assert_eq!(ebb.client().get(&own, "/health").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn openais_sdks_read_vectors_in_base64_and_as_numbers() -> anyhow::Result<()> {
    let ebb = deployed().await?;
    let body = json!({"model": MODEL, "input": SENTENCES[0], "encoding_format": "base64"});
    let coded = ask(&ebb, &body).await?.json()?;
    let coded = coded["data"][0]["embedding"].as_str().context("no text")?;
    // Four letters for three bytes, four bytes for a number.
    assert_eq!(coded.len(), DIMENSIONS * 4 / 3 * 4);
    let plain = vectors(&embed(&ebb, &json!(SENTENCES[0])).await?)?.remove(0);
    for program in ["python-embeddings", "node-embeddings"] {
        let said = told_by(program, &[&ebb.gateway.to_string(), &ebb.models_host(), MODEL]).await?;
        assert_same(&numbers(&said["plain"])?, &plain);
        assert_same(&numbers(&said["vectors"][0])?, &plain);
        let second = numbers(&said["vectors"][1])?;
        assert!(nearness(&plain, &second) > 0.5, "{program}");
        assert_eq!(said["tokens"], 8 + 8, "{program}");
        assert_eq!(said["model"], MODEL, "{program}");
        assert_eq!(said["empty"]["param"], "input", "{program}: {said}");
    }
    Ok(())
}
