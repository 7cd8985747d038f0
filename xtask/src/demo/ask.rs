//! Real questions to the running server, over HTTP.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::repo;

const PATIENCE: Duration = Duration::from_secs(10);

/// Most bytes of an answer that are read.
const MOST_BYTES: u64 = 1 << 20;

/// One question to one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// The model.
    pub(crate) model: &'static str,
    /// What is asked, in words.
    pub(crate) words: &'static str,
    /// Route.
    pub(crate) path: &'static str,
    /// JSON body.
    pub(crate) body: String,
}

/// One question for each model that is served.
///
/// # Errors
/// The housing samples cannot be read.
pub(crate) fn questions(with_sentiment: bool) -> Result<Vec<Question>> {
    let mut questions = vec![Question {
        model: "housing",
        words: "How likely is the median house value of this Californian block group to be high?",
        path: "/lab/predict",
        body: first_sample()?,
    }];
    if with_sentiment {
        questions.push(Question {
            model: "sentiment",
            words: "Are these sentences positive or negative?",
            path: "/project/predict",
            body: r#"{"text":["I love you!","I hate you!"]}"#.to_owned(),
        });
    }
    Ok(questions)
}

/// The input of the first golden row.
fn first_sample() -> Result<String> {
    let path = repo::root().join("examples/models/housing/samples.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let row: Value = serde_json::from_str(text.lines().next().unwrap_or_default())?;
    Ok(row.get("input").context("a sample without an input")?.to_string())
}

impl Question {
    /// The answer's JSON.
    ///
    /// # Errors
    /// No connection, or a status other than 200.
    pub(crate) fn ask(&self, address: SocketAddr) -> Result<String> {
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{}",
            self.path,
            self.body.len(),
            self.body
        );
        let (status, body) = exchange(address, &request)?;
        ensure!(status == 200, "{} answered {status}: {body}", self.path);
        Ok(body)
    }

    /// A line to paste. The bodies hold no single quote, which is checked here all the same.
    pub(crate) fn curl(&self, address: SocketAddr) -> String {
        let body = self.body.replace('\'', r"'\''");
        format!("curl -s http://{address}{} -H 'content-type: application/json' -d '{body}'", self.path)
    }
}

/// The status that `GET path` has.
///
/// # Errors
/// No connection, or what came is not HTTP.
pub(crate) fn status_of(address: SocketAddr, path: &str) -> Result<u16> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    Ok(exchange(address, &request)?.0)
}

/// One request on one connection, which the server closes at the end of its answer: all
/// that is needed here, in place of an HTTP library.
fn exchange(address: SocketAddr, request: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
}

fn parse(answer: &str) -> Result<(u16, String)> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("the answer has no end of head") };
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(|digits| digits.parse().ok()).context("the answer has no status")?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    fn stand_in(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn the_answer_is_what_stands_behind_the_head() {
        let question = &questions(false).unwrap()[0];
        let address = stand_in("HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{\"prediction\":0.5}");
        assert_eq!(question.ask(address).unwrap(), "{\"prediction\":0.5}");
    }

    #[test]
    fn another_status_is_an_error_that_quotes_the_answer() {
        let question = &questions(false).unwrap()[0];
        let address = stand_in("HTTP/1.1 422 Unprocessable Content\r\n\r\n{\"detail\":[]}");
        let error = question.ask(address).unwrap_err().to_string();
        assert_eq!(error, "/lab/predict answered 422: {\"detail\":[]}");
    }

    #[test]
    fn what_is_not_http_is_an_error() {
        assert!(parse("").is_err());
        assert!(parse("SSH-2.0-x\r\n\r\n").is_err());
    }

    #[test]
    fn sentiment_is_asked_only_where_it_is_served() {
        assert_eq!(questions(false).unwrap().len(), 1);
        let both = questions(true).unwrap();
        assert_eq!(both.len(), 2);
        assert!(both.iter().all(|q| serde_json::from_str::<Value>(&q.body).is_ok()));
    }
}
