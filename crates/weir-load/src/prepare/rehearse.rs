//! Asking before anything is measured.

use std::sync::Arc;

use tokio::{task::LocalSet, time::Instant};

use super::{Options, Prepared};
use crate::{
    answer::{self, Expected},
    body::rows,
    drive::failure_words,
    outcome::Outcome,
    plan::Face,
    transport::{Channels, Grpc, Http1, Transport},
};

impl Options {
    /// Asks one request, or with `check` all of them, before anything is measured: a load of
    /// mistakes would measure how fast they are refused.
    pub(super) fn rehearse(&self, prepared: &mut Prepared) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
        let target = prepared.target.clone();
        let work = async {
            match target.face {
                Face::Grpc => {
                    let channels = Channels::new(target.address, &target.host, &target.path, 1);
                    let channels = channels.map_err(|e| e.to_string())?;
                    self.ask_all(prepared, Grpc::new(channels, 0)).await
                }
                _ => self.ask_all(prepared, Http1::new(target.address)).await,
            }
        };
        runtime.block_on(LocalSet::new().run_until(work))
    }

    async fn ask_all(&self, prepared: &mut Prepared, mut transport: impl Transport) -> Result<(), String> {
        let face = prepared.target.face;
        let count = if self.check { prepared.traffic.pool.len() } else { 1 };
        for request in prepared.traffic.pool.iter_mut().take(count) {
            let left = self.deadline.then_some(self.timeout);
            let reply = transport.call(request, left, Instant::now() + self.timeout).await;
            let (body, json) = transport.answer();
            let words = || failure_words(reply.status, body, transport.reason());
            match reply.outcome {
                Outcome::Ok => {}
                Outcome::Refused if !self.check => {
                    prepared.notes.push(format!("the first request was refused ({})", words()));
                    return Ok(());
                }
                Outcome::Transport => {
                    let at = prepared.target.address;
                    return Err(format!("{at} cannot be asked: {}", transport.reason()));
                }
                _ => return Err(format!("a request failed before the load began: {}", words())),
            }
            if let Some(expected) = &request.expected {
                expected
                    .check(face, body, json)
                    .map_err(|e| format!("a wrong answer before the load began: {e}"))?;
            } else if self.check {
                let value =
                    answer::read(face, body, json).ok_or("an answer cannot be read: --check needs JSON")?;
                let expected = Expected {
                    value,
                    tolerance: self.tolerance.unwrap_or(rows::TOLERANCE),
                    bytes: Some(body.to_vec()),
                };
                Arc::make_mut(request).expected = Some(Arc::new(expected));
            }
        }
        let checked = prepared.traffic.pool.iter().filter(|r| r.expected.is_some()).count();
        prepared.notes.push(match checked {
            0 => "answers are judged by their status".into(),
            n => format!("answers to {n} bodies are checked"),
        });
        Ok(())
    }
}
