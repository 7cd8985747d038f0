//! When one inference reached each of its stages: what metrics, statistics and traces say.

use std::{sync::Arc, time::Instant};

use weir_serving::ModelTime;
use weir_types::{Clock, trace::Scope};

use super::{
    ModelView,
    trace::{Record, Sample, Transport},
};

/// The stages of one inference, each from when it began. What was not reached is not there.
pub(crate) struct Timeline {
    clock: Arc<dyn Clock>,
    /// When the request came.
    pub(crate) received: Instant,
    read: Option<Instant>,
    decoded: Option<Instant>,
    /// Whether something was looked up between decoding and waiting.
    looked_up: bool,
    queued: Option<Instant>,
    started: Option<Instant>,
    ended: Option<Instant>,
    answered: Option<Instant>,
    encoded: Option<Instant>,
    trace: Option<Sample>,
    id: Option<String>,
    scope: Option<Scope>,
}

impl Timeline {
    /// Begins with the arrival of a request, which is in Triton's trace file if `trace` is there, and
    /// at `scope` in a trace.
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        received: Instant,
        trace: Option<Sample>,
        scope: Option<&Scope>,
    ) -> Self {
        Self {
            clock,
            received,
            read: None,
            decoded: None,
            looked_up: false,
            queued: None,
            started: None,
            ended: None,
            answered: None,
            encoded: None,
            trace,
            id: None,
            scope: scope.filter(|scope| scope.is_recorded()).cloned(),
        }
    }

    /// The request is read; decoding begins.
    pub(crate) fn read(&mut self) {
        self.read = Some(self.clock.now());
    }

    /// The request is decoded; it waits for its turn from now on.
    pub(super) fn decoded(&mut self, id: Option<&str>) {
        self.decoded = Some(self.clock.now());
        self.queued = self.decoded;
        if self.trace.is_some() {
            self.id = id.map(str::to_owned);
        }
    }

    /// What the request left to be looked up is there; it waits for its turn from now on.
    pub(super) fn looked_up(&mut self) {
        self.looked_up = true;
        self.queued = Some(self.clock.now());
    }

    /// There is an answer, for which the model waited and ran so long if it was asked; encoding begins.
    pub(super) fn answered(&mut self, model: Option<ModelTime>) {
        self.answered = Some(self.clock.now());
        let Some((queued, model)) = self.queued.zip(model) else { return };
        let started = queued + model.queued;
        (self.started, self.ended) = (Some(started), Some(started + model.ran));
    }

    /// The answer is encoded.
    pub(crate) fn encoded(&mut self) {
        self.encoded = Some(self.clock.now());
    }

    /// Counts the stages of an answered request, and hands the trace in, if there is one.
    pub(crate) fn finish(mut self, view: &ModelView, transport: Transport) {
        let between = |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        if let (Some(decoding), Some(encoding)) =
            (between(self.read, self.decoded), between(self.answered, self.encoded))
        {
            view.stages.decode.observe(decoding);
            view.stages.encode.observe(encoding);
            view.version().executor.stats().face(decoding, encoding);
        }
        let took = between(self.decoded, self.queued).filter(|_| self.looked_up);
        if let Some((stage, took)) = view.stages.features.as_ref().zip(took) {
            stage.observe(took);
        }
        self.scope.iter().for_each(|scope| self.spans(scope));
        let Some(trace) = self.trace.take() else { return };
        let spec = &view.version().spec;
        let marks = self.marks(transport);
        trace.hand_in(Record {
            model: spec.name.to_string(),
            version: spec.version.to_string(),
            id: self.id,
            marks,
        });
    }

    /// The face's own stages; what the model did was recorded where it was done.
    fn spans(&self, scope: &Scope) {
        let stages = [
            ("receive", Some(self.received), self.read),
            ("decode", self.read, self.decoded),
            ("features", self.decoded, self.queued.filter(|_| self.looked_up)),
            ("encode", self.answered, self.encoded),
        ];
        for (name, from, to) in stages {
            if let (Some(from), Some(to)) = (from, to) {
                scope.add(name, (from, to), |_| {});
            }
        }
    }

    /// Triton's names of the stages that were reached, in their order. Weir lays tensors where
    /// the model takes them while it decodes, so there is no copying in or out beside the
    /// model's own time: those two marks coincide with its begin and end.
    fn marks(&self, transport: Transport) -> Vec<(&'static str, Instant)> {
        let (begin, end) = transport.marks();
        let last = self.encoded.unwrap_or_else(|| self.clock.now());
        let all = [
            (begin, Some(self.received)),
            (end, self.read),
            ("REQUEST_START", self.read),
            ("QUEUE_START", self.queued),
            ("COMPUTE_START", self.started),
            ("COMPUTE_INPUT_END", self.started),
            ("COMPUTE_OUTPUT_START", self.ended),
            ("COMPUTE_END", self.ended),
            ("REQUEST_END", Some(last)),
        ];
        all.into_iter().filter_map(|(name, at)| Some((name, at?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Mutex,
        time::{Duration, SystemTime},
    };

    use super::*;

    /// A clock that goes on a millisecond each time it is read.
    struct Ticking(Mutex<Instant>);

    impl Clock for Ticking {
        fn now(&self) -> Instant {
            let mut now = self.0.lock().unwrap();
            *now += Duration::from_millis(1);
            *now
        }

        fn wall(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH
        }
    }

    #[test]
    fn marks_are_in_order_and_only_what_was_reached() {
        let begin = Instant::now();
        let clock = Arc::new(Ticking(Mutex::new(begin)));
        let mut line = Timeline::new(clock, begin, None, None);
        let names = |line: &Timeline| -> Vec<&str> {
            let marks = line.marks(Transport::Grpc);
            assert!(marks.is_sorted_by_key(|(_, at)| *at), "{marks:?}");
            marks.into_iter().map(|(name, _)| name).collect()
        };
        line.read();
        assert_eq!(
            names(&line),
            ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END", "REQUEST_START", "REQUEST_END"]
        );
        line.decoded(Some("7"));
        let (queued, ran) = (Duration::from_micros(100), Duration::from_micros(200));
        line.answered(Some(ModelTime { queued, ran }));
        line.encoded();
        assert_eq!(names(&line).len(), 9);
        let marks = line.marks(Transport::Http);
        let at = |name: &str| marks.iter().find(|(n, _)| *n == name).unwrap().1;
        assert_eq!(at("COMPUTE_START") - at("QUEUE_START"), Duration::from_micros(100));
        assert_eq!(at("COMPUTE_END") - at("COMPUTE_START"), Duration::from_micros(200));
        assert_eq!(at("HTTP_RECV_START"), begin);
        assert_eq!(line.id, None, "what is not traced keeps no copy");
    }
}
