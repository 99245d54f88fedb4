//! Panics of tasks: the owner of a task panics with it, up to the task of the whole runner, so that
//! nothing goes on half supervised.

use tokio::task::JoinError;

/// Panics as the task has; a cancelled task is nothing to pass on.
pub(crate) fn pass_on(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_reaches_the_owner_and_a_cancelled_task_does_not() {
        let cancelled = tokio::spawn(std::future::pending());
        cancelled.abort();
        pass_on(cancelled.await);
        let panicked = tokio::spawn(async { panic!("on purpose") });
        let owner = tokio::spawn(async { pass_on(panicked.await) });
        assert!(owner.await.unwrap_err().is_panic());
    }
}
