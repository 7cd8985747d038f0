//! Spans that wait, and what sends them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceResponse, resource::v1::Resource, trace::v1::Span,
};
use prost::Message;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use weir_api::TelemetryStats;
use weir_types::trace::{Recorded, SpanSink};

use super::{
    BATCH, messages,
    transport::{Otlp, Signal},
};

/// Tries that a message has where the queue is full. Where it is not, nobody wants its place, and it
/// is tried until it is: a receiver that starts anew misses nothing.
const TRIES: u32 = 3;
/// The first pause between tries, about; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest pause, about.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest wait that a receiver is believed to mean.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Where requests leave what was recorded of them. Never waits: what does not fit is dropped.
pub(super) struct Queue {
    /// Bounded by the room, which counts spans: a channel's own bound would count requests.
    sender: mpsc::UnboundedSender<Recorded>,
    room: Arc<Semaphore>,
    stats: Arc<TelemetryStats>,
}

impl Queue {
    /// Room for `spans` spans that wait or are being sent.
    pub(super) fn new(
        spans: usize,
        stats: Arc<TelemetryStats>,
    ) -> (Self, mpsc::UnboundedReceiver<Recorded>, Arc<Semaphore>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(spans));
        (Self { sender, room: room.clone(), stats }, receiver, room)
    }
}

impl SpanSink for Queue {
    fn take(&self, recorded: Recorded) -> bool {
        let spans = recorded.spans.len();
        if recorded.lost > 0 {
            drop_spans(&self.stats, recorded.lost);
        }
        // A request's spans are few hundred at most.
        let room = u32::try_from(spans).ok().and_then(|spans| self.room.try_acquire_many(spans).ok());
        let sent = room.is_some_and(|room| {
            room.forget();
            self.sender.send(recorded).is_ok()
        });
        if !sent {
            drop_spans(&self.stats, spans);
        }
        sent
    }
}

fn drop_spans(stats: &TelemetryStats, spans: usize) {
    stats.traces.fetch_add(spans as u64, Ordering::Relaxed);
}

/// Sends what waits, one message at a time.
pub(super) struct Batches {
    pub(super) waiting: mpsc::UnboundedReceiver<Recorded>,
    /// Given back what was sent or is lost.
    pub(super) room: Arc<Semaphore>,
    pub(super) stats: Arc<TelemetryStats>,
    pub(super) interval: Duration,
    pub(super) otlp: Arc<Otlp>,
    pub(super) resource: Resource,
    pub(super) stop: watch::Receiver<bool>,
}

impl Batches {
    /// Runs until it is stopped, and then until nothing waits or the time for that is over. What is
    /// left then is lost.
    pub(super) async fn run(mut self, (spans, flush): (usize, Duration)) {
        let (mut stop, room, stats) = (self.stop.clone(), self.room.clone(), self.stats.clone());
        let over = async {
            // Where nobody can stop it, it is stopped.
            let _ = stop.wait_for(|stop| *stop).await;
            sleep(flush).await;
        };
        tokio::select! {
            () = self.work() => {}
            () = over => {}
        }
        drop_spans(&stats, spans.saturating_sub(room.available_permits()));
    }

    async fn work(&mut self) {
        let mut stop = self.stop.clone();
        let (mut batch, mut due) = (Vec::new(), None);
        // Where nobody makes traces there are none to wait for; other signals go on.
        let mut traced = true;
        loop {
            let full = batch.len() >= BATCH;
            let now = due.filter(|_| !batch.is_empty()).unwrap_or_else(far);
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                () = sleep_until(if full { Instant::now() } else { now }) => {
                    self.send(&mut batch).await;
                    due = None;
                }
                recorded = self.waiting.recv(), if traced && !full => match recorded {
                    Some(recorded) => {
                        batch.extend(messages::spans(recorded));
                        due.get_or_insert_with(|| Instant::now() + self.interval);
                    }
                    None => traced = false,
                },
            }
        }
        loop {
            while batch.len() < BATCH
                && let Ok(recorded) = self.waiting.try_recv()
            {
                batch.extend(messages::spans(recorded));
            }
            if batch.is_empty() {
                return;
            }
            self.send(&mut batch).await;
        }
    }

    /// Sends a message, again where that may help. What cannot be sent is lost.
    async fn send(&self, batch: &mut Vec<Span>) {
        let spans = std::mem::take(batch);
        let number = spans.len();
        let message = messages::request(&self.resource, spans).encode_to_vec();
        let lost = self.deliver(&message, number).await;
        if lost > 0 {
            drop_spans(&self.stats, lost);
        }
        self.room.add_permits(number);
    }

    /// How many of `number` spans were lost.
    async fn deliver(&self, message: &[u8], number: usize) -> usize {
        let mut stop = self.stop.clone();
        for again in 0u32.. {
            let problem = match self.otlp.send(Signal::Traces, message).await {
                Ok(answer) => return rejected(&answer).min(number),
                Err(problem) => problem,
            };
            self.otlp.told(Signal::Traces, &problem, number);
            // While the process ends, one try is what there is time for.
            let has_time = again + 1 < TRIES || self.room.available_permits() >= BATCH;
            if !problem.may_pass || !has_time || *self.stop.borrow() {
                break;
            }
            tokio::select! {
                () = sleep(pause(again, problem.retry_after)) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
        number
    }
}

/// How long to wait before the next try: as the receiver says, else longer and longer; not all
/// servers alike, or they come back together.
fn pause(again: u32, said: Option<Duration>) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    if let Some(said) = said {
        // "At once", said by one that refuses everything, would be a loop without a pause.
        return said.clamp(PAUSE, LONGEST_WAIT);
    }
    let about = PAUSE.saturating_mul(1 << again.min(16)).min(LONGEST_PAUSE);
    // Each state hashes by a key of its own, drawn at random.
    let share = RandomState::new().hash_one(again) as f64 / u64::MAX as f64;
    about.mul_f64(0.75 + share / 2.0)
}

/// No moment that comes.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}

/// Spans that the receiver did not take, though it took the message.
fn rejected(answer: &[u8]) -> usize {
    let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    answer.partial_success.map_or(0, |part| usize::try_from(part.rejected_spans).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    use super::*;

    #[test]
    fn pauses_grow_and_a_receivers_word_counts() {
        for again in 0..40 {
            let about = PAUSE.as_secs_f64() * 2f64.powi(again);
            let about = about.min(LONGEST_PAUSE.as_secs_f64());
            let pause = pause(again as u32, None).as_secs_f64();
            assert!((0.749 * about..1.251 * about).contains(&pause), "{again}: {pause}");
        }
        assert_ne!(pause(0, None), pause(0, None), "not all servers at once");
        assert_eq!(pause(9, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(pause(0, Some(Duration::from_secs(3_600))), LONGEST_WAIT);
        assert_eq!(pause(0, Some(Duration::ZERO)), PAUSE);
    }

    #[test]
    fn what_a_receiver_refuses_in_part_is_counted() {
        let part = ExportTracePartialSuccess { rejected_spans: 7, error_message: "too old".into() };
        let answer = ExportTraceServiceResponse { partial_success: Some(part) };
        assert_eq!(rejected(&answer.encode_to_vec()), 7);
        assert_eq!(rejected(b""), 0);
        assert_eq!(rejected(b"\xff\xff"), 0, "its answer is not worth a trace");
    }
}
