//! The examples as their manifests deploy them: a real model, and a stream of words.

use ebb_tests::binaries::source;
use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::example;

#[tokio::test]
async fn a_sleeping_digits_model_wakes_and_recognises_a_seven() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&example("onnx")?).await?;
    kubectl.wait_ready("digits").await?;
    ebb_tests::eventually("the model sleeps", || async {
        let scale = kubectl.field("rev/digits-00001", "{.status.actualReplicas}").await.ok()?;
        (scale == "0").then_some(())
    })
    .await;
    let body = std::fs::read(source().join("examples/onnx/seven.json"))?;
    let host = ebb.host("digits");
    let answer = ebb.client().post(&host, "/v2/models/digits/infer", body.into()).await?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = answer.json()?;
    let outputs = answer["outputs"].as_array().expect("outputs");
    let probabilities = outputs
        .iter()
        .find(|output| output["name"] == "probabilities")
        .and_then(|output| output["data"].as_array())
        .expect("probabilities");
    let best = (0..10)
        .max_by(|a: &usize, b: &usize| {
            probabilities[*a]
                .as_f64()
                .unwrap_or(0.0)
                .total_cmp(&probabilities[*b].as_f64().unwrap_or(0.0))
        })
        .expect("ten classes");
    assert_eq!(best, 7, "{answer}");
    Ok(())
}

#[tokio::test]
async fn the_chat_engine_streams_words_and_says_that_it_is_a_simulator() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&example("chat")?).await?;
    kubectl.wait_ready("chat").await?;
    let body = r#"{"model":"chat","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
    let answer = ebb.client().post(&ebb.host("chat"), "/v1/chat/completions", body.into()).await?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.text.trim_end().ends_with("data: [DONE]"), "{}", answer.text);
    let words: String = answer
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str::<serde_json::Value>(data).ok())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert!(words.to_lowercase().contains("simulat"), "{words}");
    Ok(())
}
