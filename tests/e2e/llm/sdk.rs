//! The models host, used by OpenAI's own SDKs for Python and JavaScript.

use std::time::Duration;

use anyhow::ensure;
use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::example;
use ebb_tests::sdk::told_by;
use tokio::time::{Instant, sleep};

/// How long it is looked whether a list wakes a model.
const LISTED_FOR: Duration = Duration::from_secs(30);

/// The example as another Service, whose model has another name.
fn model(name: &str, alias: &str, models: &str, argument: &str) -> anyhow::Result<String> {
    let manifest = example("llm")?;
    let changed = manifest
        .replace("name: llm", &format!("name: {name}"))
        .replace("serving.ebb.dev/models: smollm2", &format!("serving.ebb.dev/models: {models}"))
        .replace("--alias=smollm2", &format!("--alias={alias}\n            {argument}"))
        .replace("window: 30s", "window: 6s");
    ensure!(changed.matches(alias).count() > 1, "the example has changed: {changed}");
    Ok(changed)
}

/// Two models, asleep. Their names begin with what is a test's own: on a cluster all namespaces share
/// the names.
async fn deployed(prefix: &str) -> anyhow::Result<Ebb> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    let named = |name| format!("{prefix}-{name}");
    let (smol, embed) = (named("smollm2"), named("embed"));
    let chat = model("chat", &smol, &format!("{smol}, {prefix}-gpt={smol}"), "")?;
    let embed = model("embed", &embed, &embed, "- --embeddings")?;
    for (name, manifest) in [("chat", chat), ("embed", embed)] {
        kubectl.apply(&manifest).await?;
        kubectl.wait_ready(name).await?;
    }
    for name in ["chat", "embed"] {
        kubectl.wait_asleep(name).await;
    }
    Ok(ebb)
}

#[tokio::test]
async fn openais_sdks_list_chat_stream_embed_and_see_errors() -> anyhow::Result<()> {
    let ebb = deployed("sdk").await?;
    for program in ["python-models", "node-models"] {
        for name in ["chat", "embed"] {
            ebb.kubectl().wait_asleep(name).await;
        }
        let arguments = [&*ebb.gateway.to_string(), &ebb.models_host()];
        let said = told_by(program, &arguments).await?;
        for model in ["sdk-smollm2", "sdk-gpt", "sdk-embed"] {
            assert_eq!(said["listed"][model], "asleep", "{program}: {said}");
        }
        let text = said["chat"]["text"].as_str().unwrap_or_default();
        assert!(!text.trim().is_empty(), "{program}: {said}");
        assert_eq!(said["chat"]["model"], "sdk-smollm2", "{program}: {said}");
        assert_eq!(said["streamed"], *text, "{program}: the same question in two ways: {said}");
        assert_eq!(said["embedding"], 576, "{program}: {said}");
        let unknown = &said["unknown"];
        assert_eq!(
            (&unknown["code"], &unknown["param"]),
            (&"model_not_found".into(), &"model".into())
        );
        let message = unknown["message"].as_str().unwrap_or_default();
        assert!(message.contains("sdk-smollm2"), "{program}: {message}");
        assert_eq!(said["unlisted"], "model_not_found", "{program}: {said}");
        assert_eq!(said["retrieved"], "sdk-smollm2", "{program}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_list_of_models_wakes_none() -> anyhow::Result<()> {
    let ebb = deployed("list").await?;
    let began = Instant::now();
    while began.elapsed() < LISTED_FOR {
        let list = ebb.client().get(&ebb.models_host(), "/v1/models").await?.json()?;
        let ids = list["data"].as_array().into_iter().flatten().map(|model| &model["id"]);
        assert!(ids.clone().any(|id| id == "list-smollm2"), "{list}");
        for id in ["list-smollm2", "list-gpt", "list-embed"] {
            let path = format!("/openai/v1/models/{id}");
            let model = ebb.client().get(&ebb.models_host(), &path).await?.json()?;
            assert_eq!(model["state"], "asleep", "{model}");
        }
        let pods = ebb.kubectl().ok(&["get", "pods", "-o", "name"]).await?;
        assert_eq!(pods.trim(), "", "a list has woken a model");
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}
