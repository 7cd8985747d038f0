//! The run: who asks when, and the figures.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::{
    sync::Semaphore,
    task::{LocalSet, yield_now},
};

use crate::{
    arguments::Arguments,
    client::{self, Answer},
    frames,
};

/// Failures that are told in full.
const TOLD: usize = 5;

/// What all askers share.
struct Run {
    head: Request<()>,
    bodies: Vec<Bytes>,
    /// The answers of each model version, if they are to be compared.
    expected: BTreeMap<String, Vec<Bytes>>,
    begun: Instant,
    end: Instant,
    pace: Option<Pace>,
    counts: RefCell<Counts>,
}

/// Requests that are due at a steady rate.
struct Pace {
    rate: f64,
    /// One permit a request that is due.
    due: Semaphore,
}

#[derive(Default)]
struct Counts {
    sent: usize,
    latencies_us: Vec<u32>,
    failures: Vec<String>,
    failed: usize,
    by_model: BTreeMap<String, usize>,
}

/// Does what the arguments ask for.
///
/// # Errors
/// A server that is not there, files that are none. Requests that fail are counted.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let bodies = frames::read(&arguments.bodies)?;
    let head = client::head(&arguments)?;
    match &arguments.answers {
        Some(file) => frames::write(file, &ask_each(&arguments, &head, &bodies).await?),
        None => measure(arguments, head, bodies).await,
    }
}

async fn ask_each(arguments: &Arguments, head: &Request<()>, bodies: &[Bytes]) -> Result<Vec<Bytes>> {
    let sender = client::connect(arguments).await?;
    let mut answers = Vec::new();
    for body in bodies {
        answers.push(client::ask(&sender, head, body.clone()).await?.body);
    }
    Ok(answers)
}

async fn measure(arguments: Arguments, head: Request<()>, bodies: Vec<Bytes>) -> Result<()> {
    let mut senders = Vec::new();
    for _ in 0..arguments.connections {
        senders.push(client::connect(&arguments).await?);
    }
    let begun = Instant::now();
    let run = Rc::new(Run {
        head,
        expected: expected(&arguments, bodies.len())?,
        bodies,
        begun,
        end: begun + arguments.duration,
        pace: arguments.rate.map(|rate| Pace { rate, due: Semaphore::new(0) }),
        counts: RefCell::default(),
    });
    let tasks = LocalSet::new();
    for sender in senders {
        for _ in 0..arguments.streams {
            tasks.spawn_local(run.clone().ask_on(sender.clone()));
        }
    }
    tasks.spawn_local(run.clone().keep_pace());
    tasks.await;
    run.report();
    Ok(())
}

fn expected(arguments: &Arguments, bodies: usize) -> Result<BTreeMap<String, Vec<Bytes>>> {
    let mut all = BTreeMap::new();
    for (model, file) in &arguments.expected {
        let answers = frames::read(file)?;
        ensure!(answers.len() == bodies, "{file}: {} answers to {bodies} bodies", answers.len());
        all.insert(model.clone(), answers);
    }
    Ok(all)
}

impl Run {
    async fn ask_on(self: Rc<Self>, sender: SendRequest<Bytes>) {
        while let Some((number, due)) = self.next().await {
            let index = number % self.bodies.len();
            let answer = client::ask(&sender, &self.head, self.bodies[index].clone()).await;
            let took = due.elapsed();
            let checked = answer.and_then(|answer| self.check(index, answer));
            self.counts.borrow_mut().add(took, checked);
        }
    }

    /// The next request's number and the moment from which its time counts.
    async fn next(&self) -> Option<(usize, Instant)> {
        if let Some(pace) = &self.pace {
            // Closed at the end.
            pace.due.acquire().await.ok()?.forget();
        }
        let now = Instant::now();
        let number = self.counts.borrow().sent;
        self.counts.borrow_mut().sent += 1;
        match &self.pace {
            Some(pace) => Some((number, self.begun + pace.after(number))),
            None => (now < self.end).then_some((number, now)),
        }
    }

    /// Lets requests go as they fall due. It turns round and round rather than sleep: timers are
    /// as coarse as a millisecond, in which dozens of requests would be sent at once.
    async fn keep_pace(self: Rc<Self>) {
        let Some(pace) = &self.pace else { return };
        let mut number = 0;
        loop {
            let due = self.begun + pace.after(number);
            if due >= self.end {
                break;
            }
            while Instant::now() < due {
                yield_now().await;
            }
            pace.due.add_permits(1);
            number += 1;
        }
        // What is due was let go, but may not have been taken yet.
        while pace.due.available_permits() > 0 {
            yield_now().await;
        }
        pace.due.close();
    }

    /// Which model answered.
    fn check(&self, index: usize, answer: Answer) -> Result<Option<String>> {
        if self.expected.is_empty() {
            return Ok(None);
        }
        let model = answer.model.unwrap_or_default();
        match self.expected.get(&model) {
            Some(answers) if answers[index] == answer.body => Ok(Some(model)),
            Some(_) => bail!("{model} answered body {index} with {}", String::from_utf8_lossy(&answer.body)),
            None => bail!("{model:?} answered, which is not expected"),
        }
    }

    fn report(&self) {
        let mut counts = self.counts.borrow_mut();
        counts.failures.iter().for_each(|text| eprintln!("{text}"));
        counts.latencies_us.sort_unstable();
        let by_model: Vec<String> = counts.by_model.iter().map(|(m, n)| format!("\"{m}\": {n}")).collect();
        println!(
            "RESULT {{\"requests\": {}, \"duration_us\": {}, \"p50_us\": {}, \"p99_us\": {}, \"max_us\": {}, \
             \"failed\": {}, \"by_model\": {{{}}}}}",
            counts.latencies_us.len(),
            self.begun.elapsed().as_micros(),
            counts.quantile(0.5),
            counts.quantile(0.99),
            counts.quantile(1.0),
            counts.failed,
            by_model.join(", "),
        );
    }
}

impl Pace {
    /// When a request is due, from the beginning on.
    fn after(&self, number: usize) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }
}

impl Counts {
    fn add(&mut self, took: Duration, checked: Result<Option<String>>) {
        self.latencies_us.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        match checked {
            Ok(model) => model.into_iter().for_each(|model| *self.by_model.entry(model).or_default() += 1),
            Err(error) => {
                self.failed += 1;
                if self.failures.len() < TOLD {
                    self.failures.push(format!("{error:#}"));
                }
            }
        }
    }

    /// Of latencies that are sorted.
    fn quantile(&self, q: f64) -> u32 {
        let last = self.latencies_us.len().saturating_sub(1);
        self.latencies_us.get((q * last as f64).round() as usize).copied().unwrap_or(0)
    }
}
