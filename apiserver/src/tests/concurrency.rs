//! Writes: optimistic concurrency, isolation of subresources, patches.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};

use super::*;

fn deployment() -> Deployment {
    from(json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "main", "image": "example" }] },
            },
        },
    }))
}

async fn deployed(client: &kube::Client) -> Api<Deployment> {
    let api: Api<Deployment> = Api::default_namespaced(client.clone());
    api.create(&PostParams::default(), &deployment()).await.unwrap();
    api
}

#[tokio::test(start_paused = true)]
async fn an_update_of_an_old_version_is_a_conflict() {
    let (_server, client) = server();
    let first = create(&client, &config_map("a", &json!({}))).await;
    let mut newer = first.clone();
    newer.data = Some([("key".to_owned(), "newer".to_owned())].into());
    let newer = config_maps(&client).replace("a", &PostParams::default(), &newer).await.unwrap();
    assert!(newer.metadata.resource_version > first.metadata.resource_version);

    let refused = status(config_maps(&client).replace("a", &PostParams::default(), &first).await);
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert!(refused.message.contains("the object has been modified"), "{}", refused.message);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_changes_nothing_keeps_the_version() {
    let (_server, client) = server();
    let first = create(&client, &config_map("a", &json!({}))).await;
    let patch = Patch::Merge(json!({ "data": { "key": "value" } }));
    let same = config_maps(&client).patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(same.metadata.resource_version, first.metadata.resource_version);
}

#[tokio::test(start_paused = true)]
async fn the_generation_counts_changes_of_the_spec_only() {
    let (_server, client) = server();
    let api = deployed(&client).await;
    let labelled = Patch::Merge(json!({ "metadata": { "labels": { "a": "b" } } }));
    let labelled = api.patch("web", &PatchParams::default(), &labelled).await.unwrap();
    assert_eq!(labelled.metadata.generation, Some(1));
    let scaled = Patch::Merge(json!({ "spec": { "replicas": 3 } }));
    let scaled = api.patch("web", &PatchParams::default(), &scaled).await.unwrap();
    assert_eq!(scaled.metadata.generation, Some(2));
}

#[tokio::test(start_paused = true)]
async fn spec_and_status_are_written_apart() {
    let (_server, client) = server();
    let api = deployed(&client).await;
    let both = Patch::Merge(json!({ "spec": { "replicas": 9 }, "status": { "replicas": 9 } }));
    let spec = api.patch("web", &PatchParams::default(), &both).await.unwrap();
    assert_eq!(spec.spec.unwrap().replicas, Some(9));
    assert_eq!(spec.status.unwrap_or_default().replicas, None);

    let both = Patch::Merge(json!({
        "metadata": { "annotations": { "a": "b" } },
        "spec": { "replicas": 1 }, "status": { "replicas": 4 },
    }));
    let status = api.patch_status("web", &PatchParams::default(), &both).await.unwrap();
    assert_eq!(status.spec.unwrap().replicas, Some(9));
    assert_eq!(status.status.unwrap().replicas, Some(4));
    assert!(status.metadata.annotations.is_some());
    assert_eq!(
        status.metadata.generation,
        Some(2),
        "a status is not counted, nor what is beside it"
    );
}

#[tokio::test(start_paused = true)]
async fn scale_reads_and_writes_the_replicas() {
    let (_server, client) = server();
    let api = deployed(&client).await;
    let scale = api.get_scale("web").await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(2));
    assert_eq!(scale.status.unwrap().selector.as_deref(), Some("app=web"));

    let zero = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    let scale = api.patch_scale("web", &PatchParams::default(), &zero).await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas.unwrap_or(0), 0);
    let read = api.get("web").await.unwrap();
    assert_eq!(read.spec.unwrap().replicas, Some(0));
    assert_eq!(read.metadata.generation, Some(2));

    let text = json!({ "metadata": { "name": "web" }, "spec": { "replicas": "x" } });
    let put = http::Request::put("/apis/apps/v1/namespaces/default/deployments/web/scale");
    let put = put.header("content-type", "application/json").body(text.to_string().into_bytes());
    assert_eq!(status(client.request::<Value>(put.unwrap()).await).code, 400);
    let negative = Patch::Merge(json!({ "spec": { "replicas": -1 } }));
    let refused = status(api.patch_scale("web", &PatchParams::default(), &negative).await);
    assert_eq!(refused.code, 422);
}

#[tokio::test(start_paused = true)]
async fn a_scale_is_applied_by_who_owns_it() {
    let (_server, client) = server();
    let api = deployed(&client).await;
    let apply = |replicas: Value| {
        Patch::Apply(json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": { "name": "web" },
            "spec": replicas,
        }))
    };
    let ours = PatchParams::apply("ours");
    let three = apply(json!({ "replicas": 3 }));
    let refused = status(api.patch_scale("web", &ours, &three).await);
    let cause = &refused.details.unwrap().causes[0];
    assert_eq!((refused.code, cause.field.as_str()), (409, ".spec.replicas"));
    assert!(cause.message.ends_with(" using autoscaling/v1"), "{}", cause.message);
    let scale = api.patch_scale("web", &ours.clone().force(), &three).await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(3));
    let managers = api.get("web").await.unwrap().metadata.managed_fields.unwrap();
    let owner = managers.iter().find(|own| own.subresource.as_deref() == Some("scale")).unwrap();
    assert_eq!(owner.operation.as_deref(), Some("Apply"));
    let scale = api.patch_scale("web", &ours, &apply(json!({}))).await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas.unwrap_or(0), 0, "what nobody applies is no default");
}

#[tokio::test(start_paused = true)]
async fn server_side_apply_creates_merges_and_conflicts() {
    let (_server, client) = server();
    let api = config_maps(&client);
    let apply = |data: Value| {
        Patch::Apply(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": data,
        }))
    };
    let ours = PatchParams::apply("ours");
    let created = api.patch("a", &ours, &apply(json!({ "x": "1" }))).await.unwrap();
    assert!(created.metadata.uid.is_some());
    let again = api.patch("a", &ours, &apply(json!({ "x": "1" }))).await.unwrap();
    assert_eq!(again.metadata.resource_version, created.metadata.resource_version);
    let nameless = Patch::Apply(json!({ "apiVersion": "v1", "kind": "ConfigMap" }));
    assert_eq!(status(api.patch("a", &ours, &nameless).await).code, 400);

    let theirs = PatchParams::apply("theirs");
    api.patch("a", &theirs, &apply(json!({ "y": "2" }))).await.unwrap();
    let refused = status(api.patch("a", &theirs, &apply(json!({ "x": "3" }))).await);
    assert_eq!(refused.code, 409);
    let causes = refused.details.unwrap().causes;
    assert_eq!(causes[0].reason, "FieldManagerConflict");

    let forced = api.patch("a", &theirs.force(), &apply(json!({ "x": "3" }))).await.unwrap();
    let data = forced.data.unwrap();
    assert_eq!(data["x"], "3");
    assert_eq!(data.get("y"), None, "what a manager no longer applies goes");
}

#[tokio::test(start_paused = true)]
async fn an_apply_changes_only_the_object_that_it_names() {
    let (_server, client) = server();
    let api = config_maps(&client);
    let apply = |metadata: Value| {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "x": "1" },
        });
        (PatchParams::apply("ours").force(), Patch::Apply(object))
    };
    let (ours, of_another) = apply(json!({ "name": "a", "uid": "another" }));
    let refused = status(api.patch("a", &ours, &of_another).await);
    assert_eq!(refused.code, 409);
    assert!(refused.message.contains("no existing object was found"), "{}", refused.message);
    assert!(api.get_opt("a").await.unwrap().is_none());

    let first = create(&client, &config_map("a", &json!({}))).await;
    let refused = status(api.patch("a", &ours, &of_another).await);
    assert_eq!(
        (refused.code, refused.details.unwrap().causes[0].field.as_str()),
        (422, "metadata.uid")
    );
    let (ours, named) = apply(json!({ "name": "a", "uid": first.metadata.uid }));
    api.patch("a", &ours, &named).await.unwrap();
    let version = first.metadata.resource_version.clone();
    let (ours, older) = apply(json!({ "name": "a", "resourceVersion": version }));
    assert_eq!(status(api.patch("a", &ours, &older).await).code, 409);

    let (ours, named) = apply(json!({ "name": "b", "resourceVersion": version }));
    api.patch("b", &ours, &named).await.expect("a version of nothing says nothing");
    let mut another = first;
    another.metadata.uid = Some("another".to_owned());
    another.metadata.resource_version = None;
    let refused = status(api.replace("a", &PostParams::default(), &another).await);
    assert_eq!(refused.code, 409, "the UID of a PUT is a precondition");
}

#[tokio::test(start_paused = true)]
async fn concurrent_patches_are_all_kept() {
    let (_server, client) = server();
    create(&client, &config_map("a", &json!({}))).await;
    let writes = (0..24).map(|index| {
        let api = config_maps(&client);
        async move {
            let patch = Patch::Merge(json!({ "data": { format!("k{index}"): "v" } }));
            api.patch("a", &PatchParams::default(), &patch).await.unwrap()
        }
    });
    futures::future::join_all(writes).await;
    let read = config_maps(&client).get("a").await.unwrap();
    assert_eq!(read.data.unwrap().len(), 25);
}
