//! Every answer against FastAPI's and Pydantic's own.

use std::{collections::HashMap, process::Command};

use serde_json::Value;
use weir_codec::{QueryDecoder, Rejection, RowDecoder};
use weir_types::Scalar;

use crate::{
    differences::{self, Counts, Difference, Pieces},
    schemas, values,
};

/// Fewer would mean that the generator broke.
const FEWEST_CASES: usize = 15_000;

#[test]
fn answers_equal_pydantics() {
    let output = run_oracle();
    let decoders: HashMap<_, _> = schemas::decoders().into_iter().collect();
    let queries: HashMap<_, _> = schemas::queries().into_iter().collect();
    let mut tally = Tally::default();
    for line in output.lines().skip(1) {
        let case: Value = serde_json::from_str(line).unwrap();
        let app = case["app"].as_str().unwrap();
        let outcome = match decoders.get(app) {
            Some(decoder) => check_body(decoder, &case),
            None => check_query(&queries[app], &case),
        };
        tally.add(&case, outcome);
    }
    println!("oracle: {}", output.lines().next().unwrap());
    tally.finish();
}

fn run_oracle() -> String {
    let root = schemas::root();
    let python = root.join(".cache/venvs/pydantic/bin/python");
    let output = Command::new(&python)
        .args(["-B", "tests/pydantic/oracle.py"])
        .current_dir(&root)
        .env("PYTHONHASHSEED", "0")
        .output()
        .unwrap_or_else(|e| {
            panic!("{}: {e}; run `make venvs` (or sh tests/pydantic/setup.sh)", python.display())
        });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Counts, and the first few disagreements.
#[derive(Default)]
struct Tally {
    cases: usize,
    accepted: usize,
    rejected: usize,
    errors: usize,
    differences: Counts,
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, case: &Value, outcome: Result<Vec<Difference>, String>) {
        self.cases += 1;
        self.accepted += usize::from(case["status"] == 200);
        self.rejected += usize::from(case["status"] != 200);
        self.errors += case["errors"].as_array().map_or(0, Vec::len);
        match outcome {
            Ok(mut found) => {
                found.sort_unstable();
                found.dedup();
                found.into_iter().for_each(|d| *self.differences.entry(d).or_default() += 1);
            }
            Err(why) => self.wrong.push(format!("{} {}: {why}", case["app"], shown(case))),
        }
    }

    fn finish(self) {
        let Self { cases, accepted, rejected, errors, differences, wrong } = self;
        println!("{cases} cases compared: {accepted} accepted, {rejected} rejected with {errors} errors");
        println!("known differences: {differences:?}");
        for line in wrong.iter().take(40) {
            println!("{line:.1000}");
        }
        assert_eq!(wrong.len(), 0, "answers that differ from Pydantic's");
        assert!(cases >= FEWEST_CASES, "only {cases} cases");
        for expected in Difference::EXPECTED {
            assert!(differences.contains_key(&expected), "{expected:?} was not seen: is it still one?");
        }
    }
}

fn shown(case: &Value) -> String {
    match case["query"].as_str() {
        Some(query) => format!("?{query}"),
        None => String::from_utf8_lossy(&body(case)).chars().take(400).collect(),
    }
}

fn body(case: &Value) -> Vec<u8> {
    base64(case["body"].as_str().unwrap())
}

/// RFC 4648, for input that is known to be well formed.
fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = chunk.iter().fold(0u32, |n, &c| n << 6 | u32::from(digit(c))) << (6 * (4 - chunk.len()));
        out.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    out
}

fn errors(case: &Value) -> Vec<Pieces> {
    serde_json::from_value(case["errors"].clone()).unwrap_or_default()
}

fn status(case: &Value) -> u16 {
    u16::try_from(case["status"].as_u64().unwrap()).unwrap()
}

fn check_body(decoder: &RowDecoder, case: &Value) -> Result<Vec<Difference>, String> {
    let body = body(case);
    let answer = match case["type"].as_str() {
        Some(_) => Err(decoder.reject_media_type(&body)),
        None => decoder.decode(&body),
    };
    match (answer, status(case)) {
        (Ok(batch), 200) => values::same(decoder, &batch, &case["values"]).map(|()| Vec::new()),
        (Ok(_), status) => Err(format!("accepted, FastAPI answers {status}: {:?}", errors(case))),
        (Err(ours), status) => differences::explain(&body, status, &errors(case), &ours)
            .and_then(|found| accepted_by_fastapi_only(status, &ours, found)),
    }
}

/// Where FastAPI accepts, a difference has to say why Weir does not.
fn accepted_by_fastapi_only(
    status: u16,
    ours: &Rejection,
    found: Vec<Difference>,
) -> Result<Vec<Difference>, String> {
    if status == 200 && found.is_empty() {
        return Err(format!("refused, FastAPI accepts: {ours:?}"));
    }
    Ok(found)
}

fn check_query(decoder: &QueryDecoder, case: &Value) -> Result<Vec<Difference>, String> {
    let query = case["query"].as_str().unwrap();
    if !query.is_ascii() {
        // FastAPI reads the bytes of such a query as Latin-1; Weir as if they were escaped.
        let escaped: String = query.bytes().map(escape).collect();
        let same = decoder.decode(query) == decoder.decode(&escaped);
        return if same { Ok(vec![Difference::RawQuery]) } else { Err(format!("not as ?{escaped}")) };
    }
    match (decoder.decode(query), status(case)) {
        (Ok(values), 200) => {
            for ((name, ours), theirs) in values.iter().zip(case["values"].as_array().unwrap()) {
                if !same_scalar(ours, theirs) {
                    return Err(format!("{name} is {ours:?}, FastAPI has {theirs}"));
                }
            }
            Ok(Vec::new())
        }
        (Err(ours), 422 | 500) => differences::compare(&errors(case), &ours),
        (answer, status) => Err(format!("{answer:?}, FastAPI answers {status}: {:?}", errors(case))),
    }
}

fn escape(byte: u8) -> String {
    if byte.is_ascii() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

fn same_scalar(ours: Option<&Scalar>, theirs: &Value) -> bool {
    match ours {
        None => theirs.is_null(),
        Some(Scalar::Bool(b)) => theirs.as_bool() == Some(*b),
        Some(Scalar::Int(n)) => theirs.as_i64() == Some(*n),
        Some(Scalar::Float(x)) => theirs.as_f64() == Some(*x),
        Some(Scalar::String(text)) => theirs.as_str() == Some(text),
    }
}
