use futures::future::{BoxFuture, join_all, pending};

use super::*;

/// Never answers.
struct Nowhere;

impl Connect for Nowhere {
    fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<BoxedIo>> {
        Box::pin(pending())
    }
}

/// P6: one dial at a time, and its failure is for all who waited for it.
#[tokio::test(start_paused = true)]
async fn a_dial_that_fails_fails_for_all_who_wait() {
    let address = ([10, 0, 0, 1], 80).into();
    let upstream = Arc::new(Upstream::new(address, Protocol::H2c, Arc::new(Nowhere)));
    let begun = Instant::now();
    let attempt = async || upstream.send(Request::new(Upload::Empty), &mut || {}).await;
    let sent = join_all((0..10).map(|_| attempt())).await;
    assert!(sent.iter().all(|sent| matches!(sent, Err(SendError::Unsent { .. }))));
    assert_eq!(begun.elapsed(), CONNECT_TIMEOUT);
    // Nobody waits for it any more: the next begins anew.
    assert!(timeout(CONNECT_TIMEOUT / 2, attempt()).await.is_err());
    let begun = Instant::now();
    assert!(attempt().await.is_err());
    assert_eq!(begun.elapsed(), CONNECT_TIMEOUT);
}
