//! Names, namespaces, lists, shapes and deletion of collections.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams};

use super::*;

#[tokio::test(start_paused = true)]
async fn an_object_is_created_read_listed_and_deleted() {
    let (_server, client) = server();
    let api = config_maps(&client);
    let created = create(&client, &config_map("a", &json!({}))).await;
    assert_eq!(created.metadata.namespace.as_deref(), Some("default"));
    assert!(created.metadata.creation_timestamp.is_some());
    assert_eq!(api.get("a").await.unwrap(), created);
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items, [created]);
    let taken = status(api.create(&PostParams::default(), &config_map("a", &json!({}))).await);
    assert_eq!((taken.code, taken.reason.as_str()), (409, "AlreadyExists"));
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let gone = status(api.get("a").await);
    assert_eq!(gone.message, "configmaps \"a\" not found");
}

/// Formerly a PUT of no object ended the connection by a panic.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_object_is_refused_by_every_write() {
    let (_server, client) = server();
    create(&client, &config_map("a", &json!({}))).await;
    let all = "/api/v1/namespaces/default/configmaps";
    for body in ["[]", "5", "\"x\"", "null"] {
        for (method, path) in [("POST", all.to_owned()), ("PUT", format!("{all}/a"))] {
            let request = http::Request::builder().method(method).uri(path);
            let request = request.header("content-type", "application/json");
            let request = request.body(body.as_bytes().to_vec()).unwrap();
            let refused = status(client.request::<ConfigMap>(request).await);
            assert_eq!(refused.code, 400, "{method} {body}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_namespaces_are_there_and_a_missing_one_is_not_found() {
    let (_server, client) = server();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in ["default", "knative-serving"] {
        let phase = namespaces.get(name).await.unwrap().status.unwrap().phase;
        assert_eq!(phase.as_deref(), Some("Active"));
    }
    let api: Api<ConfigMap> = Api::namespaced(client, "nowhere");
    let refused = status(api.create(&PostParams::default(), &config_map("a", &json!({}))).await);
    assert_eq!(refused.message, "namespaces \"nowhere\" not found");
}

#[tokio::test(start_paused = true)]
async fn a_name_is_generated_and_a_wrong_one_is_refused() {
    let (_server, client) = server();
    let api = config_maps(&client);
    let prefix: ConfigMap = from(json!({ "metadata": { "generateName": "web-" } }));
    let one = api.create(&PostParams::default(), &prefix).await.unwrap().metadata.name.unwrap();
    assert!(one.starts_with("web-") && one.len() == 9, "{one}");
    let refused = status(api.create(&PostParams::default(), &config_map("A_b", &json!({}))).await);
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
}

#[tokio::test(start_paused = true)]
async fn lists_are_narrowed_and_cut_into_pages() {
    let (_server, client) = server();
    for name in ["a", "b", "c"] {
        create(&client, &config_map(name, &json!({ "name": name }))).await;
    }
    let api = config_maps(&client);
    let names = |params: ListParams| {
        let api = api.clone();
        async move {
            let list = api.list(&params).await.unwrap();
            let names = list.items.iter().filter_map(|item| item.metadata.name.clone());
            (names.collect::<Vec<_>>(), list.metadata.continue_)
        }
    };
    let selected = names(ListParams::default().labels("name in (a,c)")).await;
    assert_eq!(selected.0, ["a", "c"]);
    let selected = names(ListParams::default().fields("metadata.name=b")).await;
    assert_eq!(selected.0, ["b"]);
    let (first, next) = names(ListParams::default().limit(2)).await;
    assert_eq!(first, ["a", "b"]);
    let rest = ListParams::default().limit(2).continue_token(&next.unwrap());
    assert_eq!(names(rest).await, (vec!["c".to_owned()], None));
    let page = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(page.metadata.remaining_item_count, Some(1));
    let page = api.list(&ListParams::default().limit(1).labels("name in (a,c)")).await.unwrap();
    assert_eq!(page.metadata.remaining_item_count, None, "the real server does not count these");
}

#[tokio::test(start_paused = true)]
async fn the_options_of_a_list_are_read_then_checked_then_used() {
    let (_server, client) = server();
    for (query, code) in [
        ("fieldSelector=metadata.name&resourceVersionMatch=Exact", 400),
        ("fieldSelector=spec.unheard=1&resourceVersionMatch=Exact", 422),
        ("fieldSelector=spec.unheard=1", 400),
    ] {
        let get = http::Request::get(format!("/api/v1/configmaps?{query}"));
        let refused = status(client.request::<Value>(get.body(Vec::new()).unwrap()).await);
        assert_eq!(refused.code, code, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_collection_is_deleted_by_selector() {
    let (_server, client) = server();
    create(&client, &config_map("a", &json!({ "x": "1" }))).await;
    create(&client, &config_map("b", &json!({ "x": "2" }))).await;
    let api = config_maps(&client);
    let some = ListParams::default().labels("x=1");
    api.delete_collection(&DeleteParams::default(), &some).await.unwrap();
    let left = api.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].metadata.name.as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn lists_come_as_tables_and_as_metadata_when_asked_for() {
    let (server, client) = server();
    create(&client, &config_map("a", &json!({}))).await;
    let path = "/api/v1/namespaces/default/configmaps";
    let get = |accept| http::Request::get(path).header("accept", accept);
    let (_, table) =
        answer(&server, get("application/json;as=Table;v=v1;g=meta.k8s.io"), json!({})).await;
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    let partial = api_metadata(&client).await;
    assert_eq!(partial, ["a"]);
}

async fn api_metadata(client: &kube::Client) -> Vec<String> {
    let list = config_maps(client).list_metadata(&ListParams::default()).await.unwrap();
    list.items.into_iter().filter_map(|item| item.metadata.name).collect()
}

#[tokio::test(start_paused = true)]
async fn events_are_one_collection_under_two_groups() {
    let (_server, client) = server();
    let event = json!({
        "metadata": { "name": "e" }, "involvedObject": { "kind": "Pod", "name": "p" },
        "reason": "Started", "message": "hello", "type": "Normal",
    });
    let post = http::Request::post("/api/v1/namespaces/default/events");
    raw(&client, post, event).await;
    let newer = http::Request::get("/apis/events.k8s.io/v1/namespaces/default/events/e");
    let newer = raw(&client, newer, json!({})).await;
    assert_eq!(newer["apiVersion"], "events.k8s.io/v1");
    assert_eq!(newer["regarding"]["name"], "p");
    assert_eq!(newer["note"], "hello");
    let query = "fieldSelector=involvedObject.name%3Dp,reason!%3DStarted";
    let none = http::Request::get(format!("/api/v1/events?{query}"));
    assert_eq!(raw(&client, none, json!({})).await["items"], json!([]));
}
