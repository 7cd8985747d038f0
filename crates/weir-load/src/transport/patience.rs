//! A limit on each call that costs next to nothing while it holds.

use std::{future::Future, pin::Pin, pin::pin, task::Poll, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};

/// One timer for all calls of a connection. Setting and unsetting one for each call costs more
/// than reading a short answer; this one is left where it is and looked at again when it fires.
pub(super) struct Patience(Pin<Box<Sleep>>);

/// The limit came first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutOfTime;

impl Patience {
    pub(super) fn new() -> Self {
        Self(Box::pin(sleep_until(Instant::now() + Duration::from_secs(1))))
    }

    /// What `work` gives, unless `limit` comes first.
    pub(super) async fn within<T>(
        &mut self,
        limit: Instant,
        work: impl Future<Output = T>,
    ) -> Result<T, OutOfTime> {
        let mut work = pin!(work);
        if self.0.deadline() > limit {
            self.0.as_mut().reset(limit);
        }
        std::future::poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Ok(done));
            }
            while self.0.as_mut().poll(context).is_ready() {
                if self.0.deadline() >= limit {
                    return Poll::Ready(Err(OutOfTime));
                }
                self.0.as_mut().reset(limit);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_limit_is_kept_to_the_millisecond_whatever_was_set_before() {
        let mut patience = Patience::new();
        for ms in [5_000, 20, 3_000, 1, 700] {
            let (start, limit) = (Instant::now(), Duration::from_millis(ms));
            let never = std::future::pending::<()>();
            assert_eq!(patience.within(start + limit, never).await, Err(OutOfTime));
            let took = start.elapsed();
            assert!(took >= limit && took <= limit + Duration::from_millis(1), "{took:?} for {limit:?}");
            let short = tokio::time::sleep(limit / 2);
            assert_eq!(patience.within(Instant::now() + limit, short).await, Ok(()));
        }
    }
}
