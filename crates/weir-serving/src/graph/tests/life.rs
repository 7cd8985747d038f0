//! Steps run at the same time, and end together.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use weir_types::ErrorCode;

use super::*;
use crate::{
    Took,
    executor::tests::{Double, local},
};

const MEAN: &str = r#"
[[graph.step]]
model = "m0"
[[graph.step]]
model = "m1"
[[graph.step]]
name = "mean"
kind = "mean"
of = ["m0.p", "m1.p"]
"#;

const ROWS: [[f32; 3]; 4] = [[0.0, 0.0, 0.0], [1.0, 2.0, 0.5], [2.0, 4.0, 1.0], [3.0, 6.0, 1.5]];

#[tokio::test]
async fn independent_steps_are_asked_at_the_same_time() {
    let barrier = Arc::new(tokio::sync::Barrier::new(2));
    let models = [0, 1].map(|i| Model::new(i, Manner::Together(barrier.clone())));
    let graph = graph(MEAN, &plain(&models));
    // One after the other, the first would wait for the second forever.
    graph.execute(job(&ROWS)).await.unwrap();
}

#[tokio::test]
async fn branches_run_at_the_same_time() {
    let toml = "[[graph.step]]\nname = 's'\nkind = 'switch'\non = 'input.x'\ncolumn = 0\n\
                cases = [{ lt = 1.5, step = 'm0' }, { step = 'm1' }]\n\
                [[graph.step]]\nmodel = 'm0'\n[[graph.step]]\nmodel = 'm1'";
    let barrier = Arc::new(tokio::sync::Barrier::new(2));
    let models = [0, 1].map(|i| Model::new(i, Manner::Together(barrier.clone())));
    graph(toml, &plain(&models)).execute(job(&ROWS)).await.unwrap();
    assert_eq!(models.map(|m| m.asked()), [(1, 2), (1, 2)]);
}

#[tokio::test]
async fn the_first_failure_ends_what_still_runs_and_names_its_step() {
    let token = Arc::new(());
    let models = [Model::new(0, Manner::Never(token.clone())), Model::new(1, Manner::Fails)];
    let graph = graph(MEAN, &plain(&models));
    let error = graph.execute(job(&ROWS)).await.unwrap_err();
    assert_eq!((error.code, &*error.message), (ErrorCode::Internal, "step `m1`: it broke"));
    assert_eq!(Arc::strong_count(&token), 2, "only the model itself holds it still");
    let counts = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!((counts(&graph.stats().executed), graph.stats().failed.count()), (1, 1));
}

#[tokio::test]
async fn a_caller_who_goes_away_withdraws_every_step() {
    let token = Arc::new(());
    let models = [0, 1].map(|i| Model::new(i, Manner::Never(token.clone())));
    let graph = graph(MEAN, &plain(&models));
    {
        let mut execution = pin!(graph.execute(job(&ROWS)));
        let polled = execution.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
        assert_eq!(Arc::strong_count(&token), 5, "both wait");
    }
    assert_eq!(Arc::strong_count(&token), 3);
    assert_eq!(graph.stats().answered.count() + graph.stats().failed.count(), 0);
    assert_eq!(graph.stats().abandoned.load(Ordering::Relaxed), 1);
}

/// Takes a minute by its clock.
struct Slow(Arc<Double>, Stats);

impl Executor for Slow {
    fn execute(&self, job: Job) -> ExecuteFuture<'_> {
        self.0.clock().advance(LONG);
        let outputs = Outputs { rows: job.batch.rows, tensors: job.batch.inputs };
        Box::pin(std::future::ready(Ok(Done {
            outputs,
            tokens: None,
            cache: None,
            state: None,
            took: Took::by_model(Duration::ZERO, LONG),
        })))
    }

    fn stats(&self) -> &Stats {
        &self.1
    }
}

#[tokio::test]
async fn one_deadline_holds_for_all_steps() {
    let double = Double::light();
    let signature = |input: &str| {
        let tensor = |name: &str| tensor(name, DType::Float32, &[]);
        Signature { inputs: vec![tensor(input)], outputs: vec![tensor("y")] }
    };
    let next = Arc::new(local(&double, |_| {}));
    let slow = Arc::new(Slow(double.clone(), Stats::default()));
    let versions = [served("slow", signature("x"), slow), served("next", signature("y"), next.clone())];
    let chain = "[[graph.step]]\nmodel = 'slow'\n[[graph.step]]\nmodel = 'next'\ninputs = { y = 'slow' }";
    let rows = Tensor::new(vec![1], TensorData::Float32(vec![1.0])).unwrap();
    let job = |timeout| {
        let deadline = Deadline::after(weir_types::Clock::now(double.clock()), timeout);
        Job::new(Batch { rows: 1, inputs: vec![rows.clone()] }, deadline)
    };
    let graph = graph(chain, &versions);
    graph.execute(job(2 * LONG)).await.unwrap();
    let late = graph.execute(job(LONG)).await.unwrap_err();
    assert_eq!(late.code, ErrorCode::DeadlineExceeded, "{late}");
    assert_eq!(next.stats().executed.load(Ordering::Relaxed), 1, "the second step never ran again");
    assert_eq!((graph.stats().expired.load(Ordering::Relaxed), graph.stats().failed.count()), (1, 0));
}

#[tokio::test]
async fn whoever_is_late_asks_nobody() {
    let models = [0, 1].map(|i| Model::new(i, Manner::AtOnce));
    let graph = graph(MEAN, &plain(&models));
    let late = Job { deadline: Deadline::after(Instant::now(), Duration::ZERO), ..job(&ROWS) };
    assert_eq!(graph.execute(late).await.unwrap_err().code, ErrorCode::DeadlineExceeded);
    assert_eq!(models.map(|m| m.asked().0), [0, 0]);
}

/// A request that a member will refuse is refused before its body is read, but not for the sake
/// of a branch that it may not take.
#[tokio::test]
async fn early_refusal_asks_the_models_that_every_request_needs() {
    let cascade = "[[graph.step]]\nname = 'c'\nkind = 'cascade'\nsteps = ['m0', 'm1']\nconfidence = 'p'\n\
                   threshold = 0.9\n[[graph.step]]\nmodel = 'm0'\n[[graph.step]]\nmodel = 'm1'";
    let deadline = Deadline::after(Instant::now(), LONG);
    for (toml, refuses, early) in [(MEAN, 1, true), (cascade, 0, true), (cascade, 1, false)] {
        let manner = |i| if i == refuses { Manner::Refuses } else { Manner::AtOnce };
        let graph = graph(toml, &plain(&[0, 1].map(|i| Model::new(i, manner(i)))));
        let ready = graph.ready(&Caller::Unknown, deadline);
        assert_eq!(ready.is_err(), early, "{toml}");
        if let Err(error) = ready {
            assert_eq!(
                (error.code, &*error.message),
                (ErrorCode::Overloaded, &*format!("step `m{refuses}`: full"))
            );
            assert_eq!(error.retry_after, Some(Duration::from_secs(3)));
            assert_eq!(graph.stats().refused.load(Ordering::Relaxed), 1);
        }
    }
}

#[tokio::test]
async fn what_a_member_refuses_is_no_failure_of_the_graph() {
    let graph = graph(MEAN, &plain(&[Model::new(0, Manner::Refuses), Model::new(1, Manner::AtOnce)]));
    assert_eq!(graph.execute(job(&ROWS)).await.unwrap_err().code, ErrorCode::Overloaded);
    assert_eq!((graph.stats().refused.load(Ordering::Relaxed), graph.stats().failed.count()), (1, 0));
}
