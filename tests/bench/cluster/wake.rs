//! From zero to the first byte, beside a Deployment that is scaled by hand.

use tokio::time::Instant;

use super::Site;
use super::floor::{Floor, Token};
use crate::figures::{Figure, Paired, median};

/// Time that Ebb may add to a bare Deployment's.
const GOAL_MS: f64 = 30.0;

pub(super) async fn measure(
    site: &Site,
    pairs: usize,
    token: Token,
) -> anyhow::Result<Vec<Figure>> {
    let floor = Floor::new(site);
    let bare = ["bare".to_owned()];
    floor.create(&bare[0], 0, token).await?;
    site.sleeper("sleeper", token).await?;
    let (client, host) = (site.ebb.client(), site.ebb.host("sleeper"));
    let (mut ours, mut theirs, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pairs {
        site.asleep("sleeper").await;
        let took = floor.wake(&bare).await?;
        let bare_ms = took[0].as_secs_f64() * 1e3;
        floor.scale(&bare[0], 0).await?;
        floor.gone().await;
        let began = Instant::now();
        let answer = client.get(&host, "/").await?;
        let ebb_ms = began.elapsed().as_secs_f64() * 1e3;
        anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
        theirs.push(bare_ms);
        ours.push(ebb_ms);
        more.push(ebb_ms - bare_ms);
    }
    floor.delete_all().await?;
    site.ebb.kubectl().ok(&["delete", "ksvc", "sleeper"]).await?;
    let bare = Paired { name: "bare", value: median(&mut theirs), unit: "ms" };
    let [beyond, whole] = match token {
        Token::None => ["0 to 1, beyond a bare Deployment", "0 to 1, request to first byte"],
        Token::Mounted => ["the same with a token mounted", "request to first byte"],
    };
    let figure = |name, value, goal| {
        let paired = Some(bare.clone());
        Figure { name, value, unit: "ms", goal, paired }
    };
    Ok(vec![
        figure(beyond, median(&mut more), Some(GOAL_MS)),
        figure(whole, median(&mut ours), None),
    ])
}
