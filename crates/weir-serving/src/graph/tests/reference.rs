//! Random graphs against an evaluator that knows neither rows beside rows nor scopes: it takes
//! one row at a time and follows the names as they are written.

use std::{collections::BTreeMap, fmt::Write};

use proptest::prelude::*;

use super::*;

/// Models that take `x`, and models behind them.
const PLAIN: usize = 3;
const BEHIND: usize = 2;

/// One step as it is written.
#[derive(Debug, Clone)]
enum Written {
    Plain(usize),
    Behind(usize, usize),
    Mean(Vec<usize>, Vec<f64>),
    Vote(&'static str, Vec<usize>, Vec<f64>),
    SwitchInput(usize, Vec<(f64, usize)>, usize),
    SwitchWord(usize, Vec<(String, usize)>, usize),
    Cascade(Vec<usize>, f64),
}

/// What a step says about a row, by output.
type Row = BTreeMap<&'static str, Value>;

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Pair([f32; 2]),
    Int(i64),
    Text(String),
}

impl Written {
    fn takes(&self) -> Vec<usize> {
        match self {
            Written::Plain(_) => Vec::new(),
            Written::Behind(_, of) => vec![*of],
            Written::Mean(of, _) | Written::Vote(_, of, _) | Written::Cascade(of, _) => of.clone(),
            Written::SwitchInput(_, cases, last) => cases.iter().map(|c| c.1).chain([*last]).collect(),
            Written::SwitchWord(on, cases, last) => cases.iter().map(|c| c.1).chain([*last, *on]).collect(),
        }
    }

    fn outputs(&self, all: &[Written]) -> Vec<&'static str> {
        match self {
            Written::Plain(_) | Written::Behind(..) => vec!["p", "label", "word"],
            Written::Mean(..) => vec!["p"],
            Written::Vote(output, ..) => vec![output],
            Written::SwitchInput(..) | Written::SwitchWord(..) | Written::Cascade(..) => {
                let mut of = self.takes();
                if let Written::SwitchWord(..) = self {
                    of.pop();
                }
                let has = |output: &&'static str| of.iter().all(|s| all[*s].outputs(all).contains(output));
                ["p", "label", "word"].into_iter().filter(has).collect()
            }
        }
    }

    fn toml(&self, index: usize) -> String {
        let names = |of: &[usize], output: &str| {
            of.iter().map(|s| format!("'s{s}{output}'")).collect::<Vec<_>>().join(", ")
        };
        let body = match self {
            Written::Plain(model) => format!("model = 'm{model}'"),
            Written::Behind(model, of) => format!("model = 't{model}'\ninputs = {{ p = 's{of}.p' }}"),
            Written::Mean(of, weights) => {
                format!("kind = 'mean'\nof = [{}]\nweights = {weights:?}", names(of, ".p"))
            }
            Written::Vote(output, of, weights) => {
                format!("kind = 'vote'\nof = [{}]\nweights = {weights:?}", names(of, &format!(".{output}")))
            }
            Written::SwitchInput(column, cases, last) => {
                let mut list = String::new();
                for (bound, step) in cases {
                    let _ = write!(list, "{{ lt = {bound:?}, step = 's{step}' }}, ");
                }
                format!(
                    "kind = 'switch'\non = 'input.x'\ncolumn = {column}\ncases = [{list}{{ step = 's{last}' }}]"
                )
            }
            Written::SwitchWord(on, cases, last) => {
                let mut list = String::new();
                for (word, step) in cases {
                    let _ = write!(list, "{{ enum = ['{word}'], step = 's{step}' }}, ");
                }
                format!("kind = 'switch'\non = 's{on}.word'\ncases = [{list}{{ step = 's{last}' }}]")
            }
            Written::Cascade(of, threshold) => {
                let steps = names(of, "");
                format!("kind = 'cascade'\nsteps = [{steps}]\nconfidence = 'p'\nthreshold = {threshold:?}")
            }
        };
        format!("[[graph.step]]\nname = 's{index}'\n{body}\n")
    }

    /// The row's answer, from nothing but what is written.
    fn evaluate(&self, all: &[Written], row: &[f32; 3]) -> Row {
        let of = |step: usize| all[step].evaluate(all, row);
        let pair = |row: &Row| match row["p"] {
            Value::Pair(p) => p,
            _ => unreachable!("p is a pair"),
        };
        let kept = |row: Row| row.into_iter().filter(|(name, _)| self.outputs(all).contains(name)).collect();
        match self {
            Written::Plain(model) => said(*model, row),
            Written::Behind(model, step) => said(PLAIN + model, &pair(&of(*step))),
            Written::Mean(steps, weights) => {
                let pairs: Vec<[f32; 2]> = steps.iter().map(|s| pair(&of(*s))).collect();
                let total: f64 = weights.iter().sum();
                let mean = |i: usize| {
                    let sum: f64 = pairs.iter().zip(weights).map(|(p, w)| w * f64::from(p[i])).sum();
                    (sum / total) as f32
                };
                Row::from([("p", Value::Pair([mean(0), mean(1)]))])
            }
            Written::Vote(output, steps, weights) => {
                let votes: Vec<(Value, f64)> =
                    steps.iter().map(|s| of(*s)[output].clone()).zip(weights.iter().copied()).collect();
                let count =
                    |value: &Value| -> f64 { votes.iter().filter(|v| v.0 == *value).map(|v| v.1).sum() };
                let most = votes.iter().map(|v| count(&v.0)).fold(0.0, f64::max);
                let winner = votes.iter().find(|v| count(&v.0) == most).unwrap();
                Row::from([(*output, winner.0.clone())])
            }
            Written::SwitchInput(column, cases, last) => {
                let fits = |case: &&(f64, usize)| row[*column] < case.0 as f32;
                kept(of(cases.iter().find(fits).map_or(*last, |case| case.1)))
            }
            Written::SwitchWord(on, cases, last) => {
                let word = of(*on)["word"].clone();
                let fits = |case: &&(String, usize)| Value::Text(case.0.clone()) == word;
                kept(of(cases.iter().find(fits).map_or(*last, |case| case.1)))
            }
            Written::Cascade(steps, threshold) => {
                let sure = |step: &usize| {
                    pair(&of(*step)).into_iter().all(|p| !p.is_nan())
                        && pair(&of(*step)).into_iter().any(|p| p >= *threshold as f32)
                };
                let (last, before) = steps.split_last().unwrap();
                kept(of(*before.iter().find(|step| sure(step)).unwrap_or(last)))
            }
        }
    }
}

fn said(model: usize, row: &[f32]) -> Row {
    let Said { p, label, word } = say(model, row);
    Row::from([("p", Value::Pair(p)), ("label", Value::Int(label)), ("word", Value::Text(word))])
}

/// Steps from random bytes: each takes from those before it.
fn written(choices: &[[u8; 8]]) -> Vec<Written> {
    let mut all = vec![Written::Plain(0)];
    for choice in choices {
        let [kind, n, rest @ ..] = *choice;
        let with = |output: &str| -> Vec<usize> {
            let fitting: Vec<usize> =
                (0..all.len()).filter(|s| all[*s].outputs(&all).contains(&output)).collect();
            rest.iter().map(|byte| fitting[usize::from(*byte) % fitting.len()]).collect()
        };
        let weights = |of: &[usize]| of.iter().zip(rest).map(|(_, b)| f64::from(b % 4) + 0.5).collect();
        let output = ["p", "label", "word"][usize::from(n) % 3];
        let number = 2 + usize::from(n) % 3;
        let step = match kind % 8 {
            0 => Written::Plain(usize::from(n) % PLAIN),
            1 => Written::Behind(usize::from(n) % BEHIND, with("p")[0]),
            2 => Written::Mean(with("p")[..number].to_vec(), weights(&with("p")[..number])),
            3 => {
                let output = ["label", "word"][usize::from(n) % 2];
                Written::Vote(output, with(output)[..number].to_vec(), weights(&with(output)[..number]))
            }
            4 | 5 => {
                let of = with(output);
                let bounds = [-1.5, -0.5, 0.5, 1.5];
                let case = |(b, step): (u8, &usize)| (bounds[usize::from(b) % 4], *step);
                let cases = rest.into_iter().zip(&of).take(number - 1).map(case).collect();
                Written::SwitchInput(usize::from(rest[5]) % 3, cases, of[5])
            }
            6 => {
                let of = with(output);
                let case = |(b, step): (u8, &usize)| (format!("w{}", b % 3), *step);
                let cases = rest.into_iter().zip(&of).take(number - 1).map(case).collect();
                Written::SwitchWord(with("word")[4], cases, of[5])
            }
            _ => Written::Cascade(with("p")[..number].to_vec(), 0.5 + f64::from(rest[5] % 5) * 0.1),
        };
        all.push(step);
    }
    all
}

/// The steps that the last one needs; the others would be refused.
fn needed(all: &[Written]) -> Vec<usize> {
    let mut open = vec![all.len() - 1];
    let mut needed = Vec::new();
    while let Some(step) = open.pop() {
        if !needed.contains(&step) {
            needed.push(step);
            open.extend(all[step].takes());
        }
    }
    needed.sort_unstable();
    needed
}

/// Branches within branches, as they are written: more than the bound is refused.
fn nesting(all: &[Written], step: usize) -> usize {
    let deepest = all[step].takes().into_iter().map(|s| nesting(all, s)).max().unwrap_or(0);
    match &all[step] {
        Written::Cascade(of, _) => deepest + of.len() - 1,
        Written::SwitchInput(..) | Written::SwitchWord(..) => deepest + 1,
        _ => deepest,
    }
}

fn row_of(tensors: &[Tensor], names: &[&'static str], row: usize) -> Row {
    let value = |tensor: &Tensor| match tensor.data() {
        TensorData::Float32(v) => Value::Pair([v[row * 2], v[row * 2 + 1]]),
        TensorData::Int64(v) => Value::Int(v[row]),
        TensorData::String(v) => Value::Text(v[row].clone()),
        other => unreachable!("{other:?}"),
    };
    names.iter().copied().zip(tensors.iter().map(value)).collect()
}

/// Equal also where both are NaN.
fn same(a: &Row, b: &Row) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_answered_as_if_each_came_alone(
        choices in prop::collection::vec(any::<[u8; 8]>(), 1..12),
        rows in prop::collection::vec(prop::array::uniform3(prop_oneof![
            9 => (-20i8..20).prop_map(|n| f32::from(n) / 10.0),
            1 => Just(f32::NAN),
        ]), 1..12),
        manners in prop::array::uniform5(0usize..3),
    ) {
        let all = written(&choices);
        prop_assume!(nesting(&all, all.len() - 1) <= 8);
        let needed = needed(&all);
        let mut toml = String::new();
        // The order in which steps are written means nothing, but for the last one.
        let (last, before) = needed.split_last().unwrap();
        before.iter().rev().chain([last]).for_each(|s| toml += &all[*s].toml(*s));
        let models: Vec<_> = (0..PLAIN + BEHIND).map(|i| Model::new(i, Manner::Later(manners[i]))).collect();
        let versions = [plain(&models[..PLAIN]), behind(&models[PLAIN..])].concat();
        let names = all[*last].outputs(&all);
        prop_assume!(needed.iter().any(|s| matches!(all[*s], Written::Plain(_))));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let done = runtime.block_on(graph(&toml, &versions).execute(job(&rows))).unwrap();
        for (i, row) in rows.iter().enumerate() {
            let (got, want) = (row_of(&done.outputs.tensors, &names, i), all[*last].evaluate(&all, row));
            prop_assert!(same(&got, &want), "row {i}: {got:?} instead of {want:?}\n{toml}");
        }
        let steps = needed.iter().filter(|s| matches!(all[**s], Written::Plain(_) | Written::Behind(..))).count();
        let asked: usize = models.iter().map(|m| m.asked().1).sum();
        prop_assert!(asked <= steps * rows.len(), "a step ran twice on a row: {asked} rows in {steps} steps\n{toml}");
    }
}
