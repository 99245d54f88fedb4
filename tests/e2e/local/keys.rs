//! API keys at the models host, in a real Ebb with a real Secret: who is let in, how often, and what a
//! refused request must not do.

use std::sync::Arc;

use anyhow::ensure;
use ebb_tests::client::Client;
use ebb_tests::ebb::Ebb;
use ebb_tests::eventually;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::example;
use ebb_tests::ports::free_address;
use ebb_tests::sdk::told_by;
use serde_json::{Value, json};
use tempfile::TempDir;

const CHAT: &str = "/v1/chat/completions";
const SYSTEM: &str = "knative-serving";

/// Entries of the Secret: the key's name, the rest of its rules, and the hash that
/// `printf %s sk-NAME | sha256sum` tells.
const KEYS: [(&str, &str, &str); 4] = [
    (
        "ann",
        r#""models":["chat"],"requests-per-minute":2"#,
        "51758ef6921494b7695e67d9ec91c5eda24426b1467a5410f2e3b19ea9244465",
    ),
    (
        "bob",
        r#""tokens-per-minute":1"#,
        "36c76b48bb2ee1d9d37140550e9d7ed7d395cf56f41050dc2a72e5291c0011f0",
    ),
    (
        "python",
        r#""requests-per-minute":1"#,
        "2edbc45c88591ad809eac81deb68fa2e4d473b41408e421eaa1a6b8a85a1549b",
    ),
    (
        "node",
        r#""requests-per-minute":1"#,
        "c08010d9d0baf7eaa6b942a11ec0ff6631ef0e34b048127613700078e5b331d0",
    ),
];

/// Makes the Secret, as people do.
async fn make_secret(kubectl: &Kubectl) -> anyhow::Result<()> {
    let mut arguments = vec!["-n", SYSTEM, "create", "secret", "generic", "ebb-api-keys"];
    let entries: Vec<_> = KEYS
        .iter()
        .map(|(name, rules, hash)| {
            format!("--from-literal={name}={{\"sha256\":\"{hash}\",{rules}}}")
        })
        .collect();
    arguments.extend(entries.iter().map(String::as_str));
    kubectl.ok(&arguments).await?;
    Ok(())
}

/// The chat engine as the models `chat` and `words`, asleep, in an Ebb that asks for keys.
async fn guarded(arguments: &[&str]) -> anyhow::Result<Ebb> {
    let ebb = Ebb::start_in(Arc::new(TempDir::with_prefix("ebb-test-")?), arguments).await?;
    let kubectl = ebb.kubectl();
    let manifest = example("chat")?
        .replace(
            "  name: chat\n",
            "  name: chat\n  annotations: {serving.ebb.dev/models: \"chat, words=chat\"}\n",
        )
        .replace("value: 3s", "value: 100ms")
        .replace("value: \"20\"", "value: \"200\"");
    kubectl.apply(ebb_tests::manifest::QUICK).await?;
    kubectl.apply(&manifest.replace("window: 30s", "window: 6s")).await?;
    kubectl.wait_ready("chat").await?;
    kubectl.wait_asleep("chat").await;
    // Nobody is let in until the Secret is there.
    let named = "--from-literal=api-keys-secret=ebb-api-keys";
    kubectl.ok(&["-n", SYSTEM, "create", "configmap", "config-models", named]).await?;
    become_status(&ebb, &ebb.client(), 503).await;
    make_secret(&kubectl).await?;
    become_status(&ebb, &ebb.client().with_key("sk-ann"), 200).await;
    Ok(ebb)
}

/// Waits until this client's lists get that answer.
async fn become_status(ebb: &Ebb, client: &Client, status: u16) {
    let host = ebb.models_host();
    eventually(&format!("lists get {status}"), || async {
        let answer = client.get(&host, "/v1/models").await.ok()?;
        (answer.status == status).then_some(())
    })
    .await;
}

fn body(model: &str, streams: bool) -> String {
    let options = streams.then(|| json!({"include_usage": true}));
    let mut body = json!({"model": model, "stream": streams, "max_tokens": 5,
        "messages": [{"role": "user", "content": "hello"}]});
    if let Some(options) = options {
        body["stream_options"] = options;
    }
    body.to_string()
}

#[tokio::test]
async fn only_a_key_wakes_a_model_and_only_as_often_as_it_may() -> anyhow::Result<()> {
    let ebb = guarded(&[]).await?;
    let (host, woken) = (ebb.models_host(), ebb.wakes("chat-00001"));
    let ask = async |client: &Client, model: &str| {
        let answer = client.post(&host, CHAT, body(model, false).into()).await?;
        let code = answer.json()?["error"]["code"].as_str().unwrap_or_default().to_owned();
        anyhow::Ok((answer.status.as_u16(), code, answer))
    };
    let (nobody, ann) = (ebb.client(), ebb.client().with_key("sk-ann"));
    for client in [&nobody, &nobody.with_key("sk-eve"), &nobody.with_key("")] {
        let (status, code, answer) = ask(client, "chat").await?;
        assert_eq!((status, &*code), (401, "invalid_api_key"), "{}", answer.text);
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    let listed = ann.get(&host, "/v1/models").await?.json()?;
    let ids: Vec<_> = listed["data"].as_array().into_iter().flatten().map(|m| &m["id"]).collect();
    assert_eq!(ids, ["chat"]);
    let (status, code, answer) = ask(&ann, "words").await?;
    assert_eq!((status, &*code), (404, "model_not_found"), "{}", answer.text);
    assert_eq!(ebb.wakes("chat-00001"), woken, "a refused request has woken the model");
    let (status, _, answer) = ask(&ann, "chat").await?;
    assert_eq!(status, 200, "{}", answer.text);
    assert_eq!(ebb.wakes("chat-00001"), woken.map(|woken| woken + 1));
    ebb.kubectl().wait_asleep("chat").await;
    // Some have come back meanwhile.
    let mut refused = None;
    for _ in 0..3 {
        let (status, code, answer) = ask(&ann, "words").await?;
        if status == 429 {
            assert_eq!(code, "rate_limit_exceeded");
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("two requests a minute were not the limit");
    let after: u64 = refused.headers["retry-after"].to_str()?.parse()?;
    assert!((1..=30).contains(&after), "{after}");
    let (status, ..) = ask(&ann, "chat").await?;
    assert_eq!(status, 429);
    assert_eq!(ebb.wakes("chat-00001"), woken.map(|woken| woken + 1), "it was woken for nothing");
    // The Secret goes, and with it everybody's keys.
    ebb.kubectl().ok(&["-n", SYSTEM, "delete", "secret", "ebb-api-keys"]).await?;
    become_status(&ebb, &ann, 503).await;
    ebb.kubectl().ok(&["-n", SYSTEM, "delete", "configmap", "config-models"]).await?;
    become_status(&ebb, &nobody, 200).await;
    Ok(())
}

#[tokio::test]
async fn an_answer_is_paid_for_by_its_usage() -> anyhow::Result<()> {
    let admin = free_address();
    let ebb = guarded(&["--admin", &admin.to_string()]).await?;
    let (host, bob) = (ebb.models_host(), ebb.client().with_key("sk-bob"));
    let stream = bob.post(&host, CHAT, body("words", true).into()).await?;
    assert_eq!(stream.status, 200, "{}", stream.text);
    let chunks = stream.text.lines().filter_map(|line| line.strip_prefix("data: "));
    let usage = chunks
        .filter_map(|chunk| serde_json::from_str::<Value>(chunk).ok())
        .find_map(|chunk| chunk["usage"].as_object().cloned());
    let usage = Value::from(usage.expect("the engine says what it has cost"));
    let metrics = Client::new(admin).get("admin", "/metrics").await?.text;
    let metric = |name: &str| {
        let found = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        found.and_then(|value| value.parse::<f64>().ok())
    };
    for (name, said) in [("prompt", "prompt_tokens"), ("completion", "completion_tokens")] {
        let series =
            format!("ebb_activator_key_{name}_tokens_total{{key=\"bob\",model=\"words\"}}");
        let wanted = usage[said].as_f64();
        ensure!(wanted > Some(0.0), "{usage}");
        assert_eq!(metric(&series), wanted, "{series}: {metrics}");
    }
    let first = "ebb_activator_time_to_first_token_seconds_count{model=\"words\"}";
    assert_eq!(metric(first), Some(1.0), "{metrics}");
    let between = "ebb_activator_time_between_tokens_seconds_count{model=\"words\"}";
    assert!(metric(between) >= Some(2.0), "{metrics}");
    let next = bob.post(&host, CHAT, body("chat", false).into()).await?;
    assert_eq!(next.status, 429, "{}", next.text);
    assert_eq!(next.json()?["error"]["type"], "tokens");
    Ok(())
}

#[tokio::test]
async fn openais_sdks_raise_the_errors_that_they_have_for_keys_and_limits() -> anyhow::Result<()> {
    let ebb = guarded(&[]).await?;
    for language in ["python", "node"] {
        let (program, key) = (format!("{language}-keys"), format!("sk-{language}"));
        let arguments = [&*ebb.gateway.to_string(), &ebb.models_host(), "chat", &key];
        let said = told_by(&program, &arguments).await?;
        assert_eq!(said["unknown"], json!({"status": 401, "code": "invalid_api_key"}), "{said}");
        assert_eq!(said["listed"], json!(["chat", "words"]), "{program}");
        ensure!(said["tokens"].as_u64() > Some(0), "{program}: {said}");
        let spent = &said["spent"];
        assert_eq!(
            (&spent["status"], &spent["code"]),
            (&json!(429), &json!("rate_limit_exceeded"))
        );
        let after = spent["after"].as_u64();
        ensure!(after > Some(0) && after <= Some(60), "{program}: {said}");
    }
    Ok(())
}
