//! A process that speaks for an activator without its token.

use anyhow::Context as _;
use ebb_tests::eventually;

use crate::bed::{Bed, Daemon};

const STREAMS: &str = "ebb_activator_report_streams";

async fn introductions(autoscaler: &Daemon, outcome: &str) -> f64 {
    let name = format!("ebb_introductions_total{{outcome=\"{outcome}\"}}");
    // The series does not exist before the first introduction.
    autoscaler.metric(&name).await.unwrap_or_default()
}

/// Over real connections, with the API server asked about the tokens: no step is replaced by a
/// mock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_hears_only_activators_that_show_their_own_token() -> anyhow::Result<()> {
    let bed = Bed::start().await?;
    let _controller = bed.controller("controller-0").await?;
    let autoscaler = bed.autoscaler("autoscaler-0").await?;
    let stranger = bed.impostor("activator-1", &[&autoscaler]).await?;
    eventually("the stranger is refused", || async {
        (introductions(&autoscaler, "refused").await > 0.0).then_some(())
    })
    .await;
    assert!(stranger.metric(STREAMS).await.context("no count of streams")? < 1.0);
    assert!(introductions(&autoscaler, "accepted").await < 1.0);
    assert!(introductions(&autoscaler, "refused").await > 0.0, "the counts can be read");
    let honest = bed.activator("activator-0", &[&autoscaler]).await?;
    eventually("the honest one is heard", || async {
        (honest.metric(STREAMS).await? > 0.0).then_some(())
    })
    .await;
    assert!(introductions(&autoscaler, "accepted").await > 0.0);
    assert!(stranger.metric(STREAMS).await.context("no count of streams")? < 1.0);
    Ok(())
}
