//! Common uses of `kubectl`, with the real binary.

use ebb_tests::ebb::Ebb;
use ebb_tests::eventually;
use ebb_tests::manifest::{backend, image};
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::test]
async fn apply_makes_a_service_that_answers_and_delete_takes_everything_along() -> anyhow::Result<()>
{
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    let said = kubectl.apply(&backend("hello", &[])).await?;
    assert_eq!(said.trim(), "service.serving.knative.dev/hello created");
    kubectl.wait_ready("hello").await?;

    let answer = ebb.client().get(&ebb.host("hello"), "/some/path").await?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.field("revision"), "hello-00001");
    assert_eq!(answer.field("service"), "hello");
    assert_eq!(answer.field("path"), "/some/path");

    // Defaults in the list of containers make kubectl's patch non-empty, as with Knative; but the
    // template is the same, so there is no second revision.
    kubectl.apply(&backend("hello", &[])).await?;
    assert_eq!(kubectl.field("ksvc/hello", "{.metadata.generation}").await?, "1");

    kubectl.ok(&["delete", "ksvc", "hello"]).await?;
    eventually("nothing left after delete", || async {
        let kinds = "ksvc,cfg,rt,rev,deployments,pods";
        let left = kubectl.run(&["get", kinds, "-o", "name"], None).await.ok()?;
        left.out.trim().is_empty().then_some(())
    })
    .await;
    let gone = ebb.client().get(&ebb.host("hello"), "/").await?;
    assert_eq!(gone.status, 404);
    Ok(())
}

#[tokio::test]
async fn get_shows_knatives_columns() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("hello", &[])).await?;
    kubectl.wait_ready("hello").await?;
    for (kind, columns) in [
        ("ksvc", "NAME URL LATESTCREATED LATESTREADY READY REASON"),
        ("rev", "NAME CONFIG NAME GENERATION READY REASON ACTUAL REPLICAS DESIRED REPLICAS"),
        ("rt", "NAME URL READY REASON"),
        ("cfg", "NAME LATESTCREATED LATESTREADY READY REASON"),
        ("pods", "NAME READY STATUS RESTARTS AGE"),
        ("deploy", "NAME READY UP-TO-DATE AVAILABLE AGE"),
    ] {
        let table = kubectl.ok(&["get", kind]).await?;
        let header = table.lines().next().unwrap_or_default();
        let words: Vec<_> = header.split_whitespace().collect();
        assert_eq!(words.join(" "), columns, "{kind}:\n{table}");
        assert!(table.lines().count() > 1, "{kind} has no row:\n{table}");
    }
    let all = kubectl.ok(&["get", "ksvc,rev,rt,cfg"]).await?;
    for name in ["service.serving.knative.dev/hello", "revision.serving.knative.dev/hello-00001"] {
        assert!(all.contains(name), "{name} is missing:\n{all}");
    }
    let row = kubectl.ok(&["get", "ksvc", "hello", "--no-headers"]).await?;
    let url = format!("http://{}", ebb.host("hello"));
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(cells, ["hello", &url, "hello-00001", "hello-00001", "True"]);
    Ok(())
}

#[tokio::test]
async fn server_side_apply_keeps_what_another_manager_owns() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    let manifest = backend("hello", &[]);
    let apply = ["apply", "--server-side", "-f", "-"];
    let said = kubectl.run(&apply, Some(&manifest)).await?;
    assert_eq!(said.out.trim(), "service.serving.knative.dev/hello serverside-applied", "{said:?}");
    kubectl.wait_ready("hello").await?;
    kubectl.ok(&["label", "ksvc", "hello", "team=vision"]).await?;
    let again = kubectl.run(&apply, Some(&manifest)).await?;
    assert!(again.ok, "{}", again.err);
    assert_eq!(kubectl.field("ksvc/hello", "{.metadata.labels.team}").await?, "vision");

    let foreign = manifest.replace(&format!("image: {}", image("ebb-backend")), "image: other");
    let other = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    let conflict = kubectl.fails(&other, Some(&foreign)).await?;
    assert!(conflict.contains("conflict with \"kubectl\""), "{conflict}");
    let forced =
        kubectl.run(&[&other[..], &["--force-conflicts"]].concat(), Some(&foreign)).await?;
    assert!(forced.ok, "{}", forced.err);
    let image = "{.spec.template.spec.containers[0].image}";
    assert_eq!(kubectl.field("ksvc/hello", image).await?, "other");
    Ok(())
}

#[tokio::test]
async fn describe_explain_and_logs_tell_what_happened() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("hello", &[])).await?;
    kubectl.wait_ready("hello").await?;

    let service = kubectl.ok(&["describe", "ksvc", "hello"]).await?;
    for word in ["Latest Ready Revision Name:", "hello-00001", "Type:", "RoutesReady", "Events:"] {
        assert!(service.contains(word), "{word} is missing:\n{service}");
    }
    let explained = kubectl.ok(&["explain", "ksvc.spec.template.spec.containers"]).await?;
    for word in ["readinessProbe", "command", "image"] {
        assert!(explained.contains(word), "{word} is missing:\n{explained}");
    }

    let pods = kubectl.ok(&["get", "pods", "-o", "name"]).await?;
    let pod = pods.lines().next().unwrap_or_default();
    let described = kubectl.ok(&["describe", pod]).await?;
    assert!(described.contains("user-container"), "{described}");
    let logs = kubectl.ok(&["logs", pod]).await?;
    assert!(logs.contains("listening on port"), "{logs}");
    let selected = kubectl.ok(&["logs", "-l", "serving.knative.dev/service=hello"]).await?;
    assert!(selected.contains("listening on port"), "{selected}");
    Ok(())
}

#[tokio::test]
async fn a_patch_of_the_template_makes_a_revision_and_an_annotation_sets_bounds()
-> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("hello", &["--text", "one"])).await?;
    kubectl.wait_ready("hello").await?;
    let bounds = r#"{"spec":{"template":{"metadata":{"annotations":
        {"autoscaling.knative.dev/min-scale":"2"}}}}}"#;
    kubectl.ok(&["patch", "ksvc", "hello", "--type", "merge", "-p", bounds]).await?;
    kubectl
        .ok(&[
            "wait",
            "--for=jsonpath={.status.latestReadyRevisionName}=hello-00002",
            "--timeout=60s",
            "ksvc/hello",
        ])
        .await?;
    eventually("an event tells of the new revision", || async {
        let events = kubectl.ok(&["get", "events"]).await.ok()?;
        (events.contains("LatestReadyUpdate") && events.contains("hello-00002")).then_some(())
    })
    .await;
    eventually("two replicas", || async {
        let replicas = kubectl.field("rev/hello-00002", "{.status.actualReplicas}").await.ok()?;
        (replicas == "2").then_some(())
    })
    .await;
    let path = "/spec/template/spec/containers/0/args";
    let replace = format!(r#"[{{"op":"replace","path":"{path}","value":["--text","two"]}}]"#);
    kubectl.ok(&["patch", "ksvc", "hello", "--type", "json", "-p", &replace]).await?;
    kubectl
        .ok(&[
            "wait",
            "--for=jsonpath={.status.latestReadyRevisionName}=hello-00003",
            "--timeout=60s",
            "ksvc/hello",
        ])
        .await?;
    eventually("the new revision answers", || async {
        let answer = ebb.client().get(&ebb.host("hello"), "/").await.ok()?;
        (answer.field("text") == "two").then_some(())
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn watch_and_follow_show_changes_as_they_happen() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    let mut watch = kubectl.spawn(&["get", "ksvc", "-w", "-o", "name"])?;
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    kubectl.apply(&backend("hello", &[])).await?;
    let line = tokio::time::timeout(ebb_tests::PATIENCE, lines.next_line()).await??;
    assert_eq!(line.as_deref(), Some("service.serving.knative.dev/hello"));
    watch.kill().await?;

    kubectl.wait_ready("hello").await?;
    let mut follow = kubectl.spawn(&["logs", "-f", "-l", "serving.knative.dev/service=hello"])?;
    let mut lines = BufReader::new(follow.stdout.take().expect("piped")).lines();
    let line = tokio::time::timeout(ebb_tests::PATIENCE, lines.next_line()).await??;
    assert!(line.unwrap_or_default().contains("listening on port"));
    follow.kill().await?;
    Ok(())
}

#[tokio::test]
async fn a_dry_run_stores_nothing_and_create_replace_and_edit_work() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    let manifest = backend("hello", &[]);
    let dry = ["create", "--dry-run=server", "-f", "-"];
    let said = kubectl.run(&dry, Some(&manifest)).await?;
    assert!(said.out.contains("created (server dry run)"), "{said:?}");
    assert_eq!(kubectl.ok(&["get", "ksvc", "-o", "name"]).await?, "");
    let created = kubectl.run(&["create", "-f", "-"], Some(&manifest)).await?;
    assert!(created.ok, "{}", created.err);
    let twice = kubectl.fails(&["create", "-f", "-"], Some(&manifest)).await?;
    assert!(twice.contains("(AlreadyExists)"), "{twice}");
    kubectl.wait_ready("hello").await?;
    let stored = kubectl.ok(&["get", "ksvc", "hello", "-o", "yaml"]).await?;
    let edited = stored
        .replace("- ebb-backend", "- ebb-backend\n        env:\n        - {name: A, value: b}");
    let replaced = kubectl.run(&["replace", "-f", "-"], Some(&edited)).await?;
    assert!(replaced.ok, "{}", replaced.err);
    eventually("the replaced template is a new revision", || async {
        let name = kubectl.field("ksvc/hello", "{.status.latestReadyRevisionName}").await.ok()?;
        (name == "hello-00002").then_some(())
    })
    .await;
    let stale = kubectl.fails(&["replace", "-f", "-"], Some(&stored)).await?;
    assert!(stale.contains("(Conflict)"), "{stale}");
    Ok(())
}
