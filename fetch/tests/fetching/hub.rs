//! Hugging Face's API: listing, checksums, redirects, licences.

use serde_json::json;

use crate::process::{Cache, LOOPBACK};
use crate::server::{Server, git_blob, noise, sha256};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_secretsecretsecret";

/// Puts a repository on a server, with two pages of its list; files of over 1 KiB are in LFS.
pub(crate) fn publish(server: &Server, files: &[(&str, Vec<u8>)]) {
    let revision = json!({ "sha": COMMIT, "id": "org/model" }).to_string();
    server.put_as("/api/models/org/model/revision/main", 200, &[], revision);
    let entry = |(path, bytes): &(&str, Vec<u8>)| {
        let mut entry = json!({
            "type": "file", "path": path, "size": bytes.len(), "oid": git_blob(bytes),
        });
        if bytes.len() > 1024 {
            entry["oid"] = json!("f".repeat(40));
            entry["lfs"] = json!({ "oid": sha256(bytes), "size": bytes.len(), "pointerSize": 130 });
        }
        entry
    };
    let mut entries: Vec<_> = files.iter().map(entry).collect();
    entries.push(json!({ "type": "directory", "path": "onnx", "size": 0, "oid": "0".repeat(40) }));
    let rest = entries.split_off(1);
    let tree = format!("/api/models/org/model/tree/{COMMIT}");
    for query in ["?recursive=true", ""] {
        let second = format!("{tree}?recursive=true&cursor=second");
        let link = format!("<{}>; rel=\"next\"", server.url(&second));
        server.put_as(
            &format!("{tree}{query}"),
            200,
            &[("link", link)],
            json!(entries).to_string(),
        );
        server.put_as(&second, 200, &[], json!(rest).to_string());
    }
    for (path, bytes) in files {
        server.put(&format!("/org/model/resolve/{COMMIT}/{path}"), bytes.clone());
    }
}

fn cache(server: &Server) -> Cache {
    Cache::new().with("HF_ENDPOINT", server.url("")).with("HF_TOKEN", TOKEN)
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", noise(300_000, 1)),
        ("onnx/model.onnx", noise(5000, 2)),
        ("empty.txt", Vec::new()),
    ]
}

#[tokio::test]
async fn a_repository_comes_whole_with_its_record() {
    let server = Server::start().await;
    publish(&server, &files());
    let cache = cache(&server);
    let ended = cache.run("hf://org/model").await.done();
    for (name, bytes) in files() {
        assert_eq!(cache.file(name), bytes, "{name}");
    }
    let record = cache.json(".json");
    assert_eq!(record["source"], "hf://org/model@main");
    assert_eq!(record["version"], COMMIT);
    assert_eq!(record["files"].as_array().unwrap().len(), 4);
    let weights = record["files"].as_array().unwrap().iter().find(|file| file["size"] == 300_000);
    assert_eq!(weights.unwrap()["sha256"], sha256(&files()[1].1));
    let progress = cache.json(".progress");
    assert_eq!(progress["phase"], "done");
    assert_eq!(progress["done"], 305_002);
    assert_eq!(progress["total"], 305_002);
    assert!(
        server.seen().iter().all(|seen| seen.headers["authorization"] == format!("Bearer {TOKEN}"))
    );
    assert!(!ended.output.contains(TOKEN), "{}", ended.output);
    assert!(!cache.texts().contains(TOKEN));
}

#[tokio::test]
async fn a_second_start_asks_nothing_and_marks_the_model_as_used() {
    let server = Server::start().await;
    publish(&server, &files());
    let cache = cache(&server);
    cache.run("hf://org/model").await.done();
    let record = std::fs::File::open(cache.model().with_extension("json")).unwrap();
    record.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let before = server.seen().len();
    let ended = cache.run("hf://org/model").await.done();
    assert_eq!(server.seen().len(), before);
    assert!(ended.output.contains("is in the cache"), "{}", ended.output);
    let used = record.metadata().unwrap().modified().unwrap();
    assert!(used.elapsed().unwrap().as_secs() < 600);

    // A file of another size is no whole model.
    std::fs::write(cache.model().join("config.json"), "{ }").unwrap();
    cache.run("hf://org/model").await.done();
    assert_eq!(cache.file("config.json"), b"{}");
}

#[tokio::test]
async fn files_come_from_another_host_without_the_token() {
    let (server, storage) = (Server::start().await, Server::start().await);
    publish(&server, &files());
    let weights = format!("/org/model/resolve/{COMMIT}/model.safetensors");
    server.redirect(&weights, &storage.url("/blob?X-Signature=presigned"));
    storage.put("/blob?X-Signature=presigned", files()[1].1.clone());
    let cache = cache(&server);
    let ended = cache.run("hf://org/model").await.done();
    assert_eq!(cache.file("model.safetensors"), files()[1].1);
    let seen = storage.seen();
    assert_eq!(seen.len(), 1);
    assert!(!seen[0].headers.contains_key("authorization"), "{seen:?}");
    assert!(!seen[0].headers.contains_key("referer"), "{seen:?}");
    assert!(!ended.output.contains("presigned"), "{}", ended.output);
}

#[tokio::test]
async fn one_file_or_folder_comes_alone_and_a_split_one_with_all_parts() {
    let server = Server::start().await;
    let parts =
        [("m-00001-of-00002.gguf", noise(3000, 3)), ("m-00002-of-00002.gguf", noise(2000, 4))];
    let mut all = files();
    all.extend(parts.clone());
    publish(&server, &all);
    let cache = cache(&server);
    cache.run("hf://org/model/m-00001-of-00002.gguf").await.done();
    let names = std::fs::read_dir(cache.model()).unwrap().count();
    assert_eq!(names, 2);
    for (name, bytes) in parts {
        assert_eq!(cache.file(name), bytes);
    }
    let folder = self::cache(&server);
    let tree = format!("/api/models/org/model/tree/{COMMIT}");
    for query in ["?recursive=true", "?recursive=true&cursor=second"] {
        let page = server.state.lock().files[&format!("{tree}{query}")].clone();
        server.put_as(&format!("{tree}/onnx{query}"), 200, &page.headers, page.body);
    }
    folder.run("hf://org/model/onnx/").await.done();
    assert_eq!(folder.file("model.onnx"), files()[2].1);
    assert_eq!(std::fs::read_dir(folder.model()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_is_not_tried_again() {
    let server = Server::start().await;
    let revision = "/api/models/org/model/revision/main";
    for (status, code, token, words) in [
        (403, "GatedRepo", true, "accept its licence"),
        (401, "RepoNotFound", false, "give a token as HF_TOKEN"),
        (401, "RepoNotFound", true, "does not let this token read"),
        (404, "RevisionNotFound", true, "check the name, the revision and the path"),
    ] {
        server.put_as(revision, status, &[("x-error-code", code.to_owned())], "");
        let mut cache = cache(&server);
        if !token {
            cache.set("HF_TOKEN", "");
        }
        let before = server.seen().len();
        let ended = cache.run("hf://org/model").await;
        let last = ended.failed(1);
        assert!(last.contains(words), "{last}");
        assert!(!last.contains(TOKEN), "{last}");
        assert_eq!(server.seen().len(), before + 1);
        let progress = cache.json(".progress");
        assert_eq!(progress["phase"], "failed");
        assert!(progress["error"].as_str().unwrap().contains(words));
    }
}

#[tokio::test]
async fn a_file_that_is_not_what_the_list_says_does_not_appear() {
    let server = Server::start().await;
    for wrong in ["config.json", "model.safetensors"] {
        publish(&server, &files());
        let path = format!("/org/model/resolve/{COMMIT}/{wrong}");
        let mut bytes = server.state.lock().files[&path].body.to_vec();
        bytes[0] ^= 1;
        server.put(&path, bytes);
        let cache = cache(&server);
        let last = cache.run("hf://org/model").await.failed(1);
        assert!(last.contains(wrong) && last.contains("checksum"), "{last}");
        assert_eq!(cache.keys(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_checksum_of_the_source_is_compared_beside_the_listed_one() {
    let server = Server::start().await;
    publish(&server, &files());
    for (name, bytes) in [&files()[0], &files()[1]] {
        let source = |bytes: &[u8]| format!("hf://org/model/{name}#sha256={}", sha256(bytes));
        let cache = cache(&server);
        let last = cache.run(&source(b"other")).await.failed(1);
        assert!(last.contains(name) && last.contains("compare the source"), "{last}");
        assert_eq!(cache.keys(), Vec::<String>::new());
        cache.run(&source(bytes)).await.done();
        assert_eq!(cache.file(name), *bytes);
    }
}

#[tokio::test]
async fn a_list_with_hostile_names_or_pages_is_refused() {
    let server = Server::start().await;
    for name in ["../escaped", "/etc/passwd", "a\\..\\b", "a//b"] {
        publish(&server, &[("config.json", b"{}".to_vec()), (name, b"x".to_vec())]);
        let cache = cache(&server);
        let last = cache.run("hf://org/model").await.failed(1);
        assert!(last.contains("names a file"), "{last}");
        assert_eq!(cache.begun(), 0);
    }
    publish(&server, &files());
    let tree = format!("/api/models/org/model/tree/{COMMIT}?recursive=true");
    server.put_as(&tree, 200, &[("link", "</more>; rel=\"next\"".to_owned())], "[]");
    let last = cache(&server).run("hf://org/model").await.failed(1);
    assert!(last.contains("a next page that is none"), "{last}");
}

/// As a mirror hands them on.
#[tokio::test]
async fn links_to_another_host_lead_to_pages_of_this_one() {
    let (server, elsewhere) = (Server::start().await, Server::start().await);
    publish(&server, &files());
    let tree = format!("/api/models/org/model/tree/{COMMIT}?recursive=true");
    let first = server.state.lock().files[&tree].body.clone();
    let link = format!("<{}&cursor=second>; rel=\"next\"", elsewhere.url(&tree));
    server.put_as(&tree, 200, &[("link", link)], first);
    let cache = cache(&server);
    cache.run("hf://org/model").await.done();
    assert_eq!(cache.file("onnx/model.onnx"), files()[2].1);
    assert_eq!(elsewhere.seen().len(), 0);
}

#[tokio::test]
async fn quiet_is_quiet() {
    let server = Server::start().await;
    publish(&server, &files());
    let quiet = [&LOOPBACK[..], &["--quiet"]].concat();
    let ended = cache(&server).run_with("hf://org/model", &quiet).await.done();
    assert_eq!(ended.output, "");
}
