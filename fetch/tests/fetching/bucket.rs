//! Objects of S3.

use std::time::Duration;

use axum::http::Method;

use crate::process::{Cache, until};
use crate::server::{Server, noise};

fn cache(server: &Server) -> Cache {
    Cache::new()
        .with("AWS_ENDPOINT_URL", server.url(""))
        .with("AWS_ALLOW_HTTP", "true")
        .with("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .with("AWS_SECRET_ACCESS_KEY", "awssecretsecret")
        .with("AWS_SESSION_TOKEN", "sessionsecret")
        .with("AWS_REGION", "eu-west-7")
}

fn put(server: &Server, key: &str, bytes: &[u8]) {
    let headers = [
        ("etag", format!("\"{}\"", &crate::server::sha256(bytes)[..32])),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
    ];
    server.put_as(&format!("/models/{key}"), 200, &headers, bytes.to_vec());
}

/// Two pages of ListObjectsV2.
fn list(server: &Server, objects: &[(&str, &[u8])]) {
    let page = |objects: &[(&str, &[u8])], next: Option<&str>| {
        let entries: Vec<String> = objects
            .iter()
            .map(|(key, bytes)| {
                format!(
                    "<Contents><Key>{key}</Key><LastModified>1994-11-06T08:49:37.000Z</LastModified>\
                     <ETag>&quot;{}&quot;</ETag><Size>{}</Size></Contents>",
                    &crate::server::sha256(bytes)[..32],
                    bytes.len()
                )
            })
            .collect();
        let next = next.map_or(String::new(), |token| {
            format!("<NextContinuationToken>{token}</NextContinuationToken>")
        });
        format!(
            "<ListBucketResult><IsTruncated>{}</IsTruncated>{}{next}</ListBucketResult>",
            !next.is_empty(),
            entries.concat()
        )
    };
    let (first, second) = objects.split_at(1);
    let query = "/models?list-type=2&prefix=llm%2F";
    server.put_as(query, 200, &[], page(first, Some("page2")));
    let second_query = "/models?continuation-token=page2&list-type=2&prefix=llm%2F";
    server.put_as(second_query, 200, &[], page(second, None));
}

#[tokio::test]
async fn all_objects_below_a_key_come_signed() {
    let server = Server::start().await;
    let (config, weights) = (b"{}".as_slice(), noise(200_000, 1));
    let objects = [("llm/config.json", config), ("llm/sub/w.bin", weights.as_slice())];
    list(&server, &objects);
    for (key, bytes) in objects {
        put(&server, key, bytes);
    }
    let cache = cache(&server);
    let ended = cache.run("s3://models/llm/").await;
    assert_eq!(ended.code, Some(0), "{} {:?}", ended.output, server.seen());
    assert_eq!(cache.file("config.json"), config);
    assert_eq!(cache.file("sub/w.bin"), weights);
    for seen in server.seen() {
        let signature = seen.headers["authorization"].to_str().unwrap();
        assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{signature}");
        assert!(signature.contains("/eu-west-7/s3/aws4_request"), "{signature}");
        assert_eq!(seen.headers["x-amz-security-token"], "sessionsecret");
    }
    for secret in ["awssecretsecret", "sessionsecret"] {
        assert!(!ended.output.contains(secret), "{}", ended.output);
        assert!(!cache.texts().contains(secret));
    }
}

/// Consoles make an empty object `sub/` for a folder.
#[tokio::test]
async fn an_object_that_stands_for_a_folder_is_no_file() {
    let server = Server::start().await;
    let objects = [
        ("llm/", b"".as_slice()),
        ("llm/sub/", b""),
        ("llm/sub/w.bin", b"weights"),
        ("llm/empty.txt", b""),
    ];
    list(&server, &objects);
    for (key, bytes) in objects {
        put(&server, key, bytes);
    }
    let cache = cache(&server);
    cache.run("s3://models/llm/").await.done();
    assert_eq!(cache.file("sub/w.bin"), b"weights");
    assert_eq!(cache.file("empty.txt"), b"");
    assert_eq!(cache.json(".json")["files"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_list_without_an_end_is_ended() {
    let server = Server::start().await;
    list(&server, &[("llm/config.json", b"{}")]);
    let next = "/models?continuation-token=page2&list-type=2&prefix=llm%2F";
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated>\
                <NextContinuationToken>page2</NextContinuationToken></ListBucketResult>";
    server.put_as(next, 200, &[], page);
    let last = cache(&server).run("s3://models/llm/").await.failed(1);
    assert!(last.contains("more than 200 pages"), "{last}");
    let large = vec![b' '; 65 << 20];
    server.put_as(next, 200, &[], large);
    let last = cache(&server).run("s3://models/llm/").await.failed(1);
    assert!(last.contains("sent a list of more than"), "{last}");
}

#[tokio::test]
async fn without_credentials_nothing_is_signed_and_nobody_is_asked_for_them() {
    let server = Server::start().await;
    let bytes = noise(1000, 1);
    put(&server, "m.gguf", &bytes);
    let cache =
        Cache::new().with("AWS_ENDPOINT_URL", server.url("")).with("AWS_ALLOW_HTTP", "true");
    cache.run("s3://models/m.gguf").await.done();
    assert_eq!(cache.file("m.gguf"), bytes);
    assert!(server.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[tokio::test]
async fn an_object_is_gone_on_with_while_it_is_the_same() {
    let server = Server::start().await;
    let (old, new) = (noise(12 << 20, 1), noise(11 << 20, 2));
    put(&server, "m.gguf", &old);
    server.pace(Duration::from_millis(5));
    let cache = cache(&server);
    let mut child = cache.start("s3://models/m.gguf");
    until("some megabytes", || cache.begun() >= 4 << 20).await;
    child.kill().await.unwrap();
    child = cache.start("s3://models/m.gguf");
    until("more megabytes", || cache.begun() >= 8 << 20).await;
    child.kill().await.unwrap();
    let gets = |server: &Server| {
        let seen = server.seen();
        seen.into_iter().filter(|seen| seen.method == Method::GET).collect::<Vec<_>>()
    };
    let second = &gets(&server)[1];
    assert!(second.headers.contains_key("range") && second.headers.contains_key("if-match"));
    assert!(server.served() < 15 << 20, "{}", server.served());

    put(&server, "m.gguf", &new);
    server.pace(Duration::ZERO);
    cache.run("s3://models/m.gguf").await.done();
    assert!(cache.file("m.gguf") == new);
    assert!(!gets(&server)[2].headers.contains_key("range"));
}

#[tokio::test]
async fn an_object_that_changes_while_it_comes_is_listed_anew() {
    let server = Server::start().await;
    let (old, new) = (noise(6 << 20, 1), noise(5 << 20, 2));
    put(&server, "m.gguf", &old);
    server.state.lock().breaks_after = Some(3 << 20);
    let cache = cache(&server);
    let child = cache.start("s3://models/m.gguf");
    until("some megabytes", || cache.begun() >= 2 << 20).await;
    put(&server, "m.gguf", &new);
    server.state.lock().breaks_after = None;
    let ended = crate::process::end(child).await.done();
    assert!(ended.output.contains("listing them anew"), "{}", ended.output);
    assert!(cache.file("m.gguf") == new);
}

#[tokio::test]
async fn a_refusal_of_the_bucket_says_its_code_and_what_to_do() {
    let server = Server::start().await;
    let body = "<Error><Code>AccessDenied</Code><Message>AKIDEXAMPLE no</Message></Error>";
    let query = "/models?list-type=2&prefix=llm%2F";
    server.put_as(query, 403, &[], body);
    let last = cache(&server).run("s3://models/llm/").await.failed(1);
    assert!(
        last.contains("AccessDenied") && last.contains("does not let these credentials"),
        "{last}"
    );
    assert!(!last.contains("AKIDEXAMPLE"), "{last}");
    assert_eq!(server.asked(query), 1);
    let last = cache(&server).run("s3://models/none.gguf").await.failed(1);
    assert!(last.contains("no such object"), "{last}");
}

/// A redirect would take the session's token elsewhere.
#[tokio::test]
async fn a_redirect_of_the_bucket_is_not_followed() {
    let (server, other) = (Server::start().await, Server::start().await);
    server.redirect("/models/m.gguf", &other.url("/models/m.gguf"));
    put(&other, "m.gguf", b"x");
    cache(&server).run("s3://models/m.gguf").await.failed(1);
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn an_overloaded_bucket_is_waited_for() {
    let server = Server::start().await;
    put(&server, "m.gguf", b"weights");
    server.fail(503, &[]);
    let cache = cache(&server);
    let ended = cache.run("s3://models/m.gguf").await.done();
    assert!(ended.output.contains("503"), "{}", ended.output);
    assert_eq!(cache.file("m.gguf"), b"weights");
}
