//! Answers out: one row's answer as JSON text, written straight from the output tensors.

use std::io::Write;

use half::{bf16, f16};
use weir_types::{Answer, Outputs, Scalar, Tensor, TensorData};

/// Writes the answer for row `row` to `out`. JSON has no NaN and no infinity: they become
/// `null`, and the number of times is returned, so that the face can flag it.
///
/// An index beyond the outputs writes `null` too; answers are resolved against the
/// signature when a model loads, so it means that the engine broke its word.
#[must_use]
pub fn write_answer(answer: &Answer, outputs: &Outputs, row: usize, out: &mut Vec<u8>) -> usize {
    match answer {
        Answer::Number { output, column } => write_element(outputs, *output, row, *column, out),
        Answer::Class { output, classes, labels } => {
            let label = class_column(outputs, *output, row, classes).and_then(|c| labels.get(c));
            write_optional_label(label, out);
            0
        }
        Answer::ClassScore { output, classes, scores } => {
            match class_column(outputs, *output, row, classes) {
                Some(column) => write_element(outputs, *scores, row, column, out),
                None => write_null(out),
            }
        }
        Answer::Label { output, labels } => {
            let best = best_column(outputs, *output, row).and_then(|c| labels.get(c));
            write_optional_label(best, out);
            0
        }
        Answer::Score { output } => match best_column(outputs, *output, row) {
            Some(column) => write_element(outputs, *output, row, column, out),
            None => write_null(out),
        },
        Answer::LabelScores { output, labels } => write_label_scores(outputs, *output, row, labels, out),
        Answer::ScoreMap { output, labels } => write_score_map(outputs, *output, row, labels, out),
        Answer::Entities { output, .. } => write_json(outputs, *output, row, out),
        Answer::Raw { output } => write_raw(outputs, *output, row, out),
        Answer::Record(parts) => write_record(parts, outputs, row, out),
    }
}

/// Writes `text` as a JSON string.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    // Writing to a `Vec` cannot fail, and a `&str` is always a JSON string.
    let _ = serde_json::to_writer(out, text);
}

/// Writes a list of floats; returns how many are `null` because JSON has no word for them.
#[must_use]
pub fn write_floats(values: &[f32], out: &mut Vec<u8>) -> usize {
    list(values.iter(), (b'[', b']'), out, |value, out| write_float(*value, out))
}

fn write_null(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(b"null");
    1
}

fn write_optional_label(label: Option<&String>, out: &mut Vec<u8>) {
    match label {
        Some(label) => write_string(label, out),
        None => out.extend_from_slice(b"null"),
    }
}

fn write_label_scores(
    outputs: &Outputs,
    output: usize,
    row: usize,
    labels: &[String],
    out: &mut Vec<u8>,
) -> usize {
    list(labels.iter().enumerate(), (b'[', b']'), out, |(column, label), out| {
        out.extend_from_slice(b"{\"label\":");
        write_string(label, out);
        out.extend_from_slice(b",\"score\":");
        let nulls = write_element(outputs, output, row, column, out);
        out.push(b'}');
        nulls
    })
}

fn write_score_map(
    outputs: &Outputs,
    output: usize,
    row: usize,
    labels: &[String],
    out: &mut Vec<u8>,
) -> usize {
    list(labels.iter().enumerate(), (b'{', b'}'), out, |(column, label), out| {
        write_string(label, out);
        out.push(b':');
        write_element(outputs, output, row, column, out)
    })
}

fn write_record(parts: &[(String, Answer)], outputs: &Outputs, row: usize, out: &mut Vec<u8>) -> usize {
    list(parts.iter(), (b'{', b'}'), out, |(key, answer), out| {
        write_string(key, out);
        out.push(b':');
        write_answer(answer, outputs, row, out)
    })
}

/// Writes the element of a string output that is JSON already.
fn write_json(outputs: &Outputs, output: usize, row: usize, out: &mut Vec<u8>) -> usize {
    let texts = outputs.tensors.get(output).and_then(Tensor::as_strings);
    let Some(json) = texts.and_then(|texts| texts.get(row)) else { return write_null(out) };
    out.extend_from_slice(json.as_bytes());
    // Within strings the quotes are escaped, so that no word of a text is counted.
    json.matches("\"score\":null").count()
}

fn write_raw(outputs: &Outputs, output: usize, row: usize, out: &mut Vec<u8>) -> usize {
    let Some(tensor) = outputs.tensors.get(output) else { return write_null(out) };
    let shape = tensor.shape().get(1..).unwrap_or_default();
    match shape {
        [] | [1] => write_at(tensor, row * tensor.row_width(), out),
        _ => write_nested(tensor, shape, row * tensor.row_width(), out),
    }
}

/// Writes a list a dimension; the depth is the rank of an output that loaded, not the
/// caller's word.
fn write_nested(tensor: &Tensor, shape: &[usize], start: usize, out: &mut Vec<u8>) -> usize {
    let Some((&len, inner)) = shape.split_first() else { return write_at(tensor, start, out) };
    let stride: usize = inner.iter().product();
    list(0..len, (b'[', b']'), out, |i, out| write_nested(tensor, inner, start + i * stride, out))
}

fn list<T>(
    items: impl Iterator<Item = T>,
    (open, close): (u8, u8),
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>) -> usize,
) -> usize {
    out.push(open);
    let mut nulls = 0;
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        nulls += write(item, out);
    }
    out.push(close);
    nulls
}

fn write_element(outputs: &Outputs, output: usize, row: usize, column: usize, out: &mut Vec<u8>) -> usize {
    match outputs.tensors.get(output) {
        Some(tensor) if column < tensor.row_width() => {
            write_at(tensor, row * tensor.row_width() + column, out)
        }
        _ => write_null(out),
    }
}

/// The column of the class that the model decided for.
fn class_column(outputs: &Outputs, output: usize, row: usize, classes: &[Scalar]) -> Option<usize> {
    let tensor = outputs.tensors.get(output)?;
    let int = |n: i64| classes.iter().position(|class| matches!(class, Scalar::Int(c) if *c == n));
    match tensor.data() {
        TensorData::Int64(v) => int(*v.get(row)?),
        TensorData::Int32(v) => int(i64::from(*v.get(row)?)),
        TensorData::String(v) => {
            let name = v.get(row)?;
            classes.iter().position(|class| matches!(class, Scalar::String(c) if c == name))
        }
        _ => None,
    }
}

/// The column of the highest score; the first of equals, as numpy's argmax. NaN never wins.
fn best_column(outputs: &Outputs, output: usize, row: usize) -> Option<usize> {
    let tensor = outputs.tensors.get(output)?;
    let (start, width) = (row * tensor.row_width(), tensor.row_width());
    let best = |scores: &mut dyn Iterator<Item = f64>| {
        let better = |best: Option<(usize, f64)>, (i, score): (usize, f64)| match best {
            Some((_, highest)) if score <= highest => best,
            _ if score.is_nan() => best,
            _ => Some((i, score)),
        };
        scores.enumerate().fold(None, better).map(|(i, _)| i)
    };
    match tensor.data() {
        TensorData::Float32(v) => best(&mut v.get(start..start + width)?.iter().map(|s| f64::from(*s))),
        TensorData::Float64(v) => best(&mut v.get(start..start + width)?.iter().copied()),
        _ => None,
    }
}

/// Writes element `index` of `tensor`.
fn write_at(tensor: &Tensor, index: usize, out: &mut Vec<u8>) -> usize {
    macro_rules! at {
        ($v:expr, $write:expr) => {
            match $v.get(index) {
                Some(value) => $write(value),
                None => write_null(out),
            }
        };
    }
    match tensor.data() {
        TensorData::Bool(v) => at!(v, |b: &bool| write_display(b, out)),
        TensorData::Int8(v) => at!(v, |n: &i8| write_int(*n, out)),
        TensorData::Int16(v) => at!(v, |n: &i16| write_int(*n, out)),
        TensorData::Int32(v) => at!(v, |n: &i32| write_int(*n, out)),
        TensorData::Int64(v) => at!(v, |n: &i64| write_int(*n, out)),
        TensorData::Uint8(v) => at!(v, |n: &u8| write_int(*n, out)),
        TensorData::Uint16(v) => at!(v, |n: &u16| write_int(*n, out)),
        TensorData::Uint32(v) => at!(v, |n: &u32| write_int(*n, out)),
        TensorData::Uint64(v) => at!(v, |n: &u64| write_int(*n, out)),
        TensorData::Float16(v) => at!(v, |n: &u16| write_float(f16::from_bits(*n).to_f32(), out)),
        TensorData::Bfloat16(v) => at!(v, |n: &u16| write_float(bf16::from_bits(*n).to_f32(), out)),
        TensorData::Float32(v) => at!(v, |n: &f32| write_float(*n, out)),
        TensorData::Float64(v) => at!(v, |n: &f64| write_float(*n, out)),
        TensorData::String(v) => at!(v, |s: &String| {
            write_string(s, out);
            0
        }),
    }
}

fn write_display(value: &bool, out: &mut Vec<u8>) -> usize {
    let _ = write!(out, "{value}");
    0
}

fn write_int(value: impl itoa::Integer, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    0
}

/// The shortest text that reads back as the same float *of the same width*: a float32
/// score is `0.97`, not the `0.9700000286102295` that a detour through double gives.
fn write_float<F: ryu::Float + Into<f64>>(value: F, out: &mut Vec<u8>) -> usize {
    if !value.into().is_finite() {
        return write_null(out);
    }
    out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs() -> Outputs {
        let scores = TensorData::Float32(vec![0.97, 0.03, f32::NAN, f32::INFINITY]);
        let ids = TensorData::Int64(vec![7, -8]);
        let grid = TensorData::Float64((0..8).map(f64::from).collect());
        let json = [r#"[{"score":null,"word":"\"score\":null"}]"#, "[]"].map(str::to_owned);
        let tensors = vec![
            Tensor::new(vec![2, 2], scores).unwrap(),
            Tensor::new(vec![2], ids).unwrap(),
            Tensor::new(vec![2, 2, 2], grid).unwrap(),
            Tensor::new(vec![2], TensorData::String(json.to_vec())).unwrap(),
        ];
        Outputs { rows: 2, tensors }
    }

    fn text(answer: &Answer, row: usize) -> (String, usize) {
        let mut out = Vec::new();
        let nulls = write_answer(answer, &outputs(), row, &mut out);
        (String::from_utf8(out).unwrap(), nulls)
    }

    fn labels() -> Vec<String> {
        vec!["low".into(), "hi\"gh".into()]
    }

    #[test]
    fn each_answer_is_the_json_it_says() {
        let cases = [
            (Answer::Number { output: 0, column: 0 }, r#"0.97"#),
            (Answer::Label { output: 0, labels: labels() }, r#""low""#),
            (Answer::Score { output: 0 }, r#"0.97"#),
            (
                Answer::LabelScores { output: 0, labels: labels() },
                r#"[{"label":"low","score":0.97},{"label":"hi\"gh","score":0.03}]"#,
            ),
            (Answer::ScoreMap { output: 0, labels: labels() }, r#"{"low":0.97,"hi\"gh":0.03}"#),
            (Answer::Raw { output: 1 }, "7"),
            (Answer::Raw { output: 2 }, "[[0.0,1.0],[2.0,3.0]]"),
            (
                Answer::Record(vec![
                    ("id".into(), Answer::Raw { output: 1 }),
                    ("p".into(), Answer::Number { output: 0, column: 1 }),
                ]),
                r#"{"id":7,"p":0.03}"#,
            ),
        ];
        for (answer, expected) in cases {
            assert_eq!(text(&answer, 0), (expected.to_string(), 0));
        }
    }

    #[test]
    fn what_json_cannot_say_is_null_and_counted() {
        let (json, nulls) = text(&Answer::ScoreMap { output: 0, labels: labels() }, 1);
        assert_eq!((json.as_str(), nulls), (r#"{"low":null,"hi\"gh":null}"#, 2));
        assert_eq!(text(&Answer::Number { output: 9, column: 0 }, 0), ("null".to_string(), 1));
        assert_eq!(text(&Answer::Label { output: 1, labels: labels() }, 0), ("null".to_string(), 0));
    }

    #[test]
    fn the_models_own_class_counts_more_than_the_highest_score() {
        let classes = || vec![Scalar::Int(-8), Scalar::Int(7)];
        let class = Answer::Class { output: 1, classes: classes(), labels: labels() };
        let score = Answer::ClassScore { output: 1, classes: classes(), scores: 0 };
        assert_eq!(text(&class, 0), (r#""hi\"gh""#.to_string(), 0));
        assert_eq!(text(&class, 1), (r#""low""#.to_string(), 0));
        assert_eq!(text(&score, 0), ("0.03".to_string(), 0));
        let unknown = Answer::Class { output: 1, classes: vec![Scalar::Int(3)], labels: labels() };
        assert_eq!(text(&unknown, 0), ("null".to_string(), 0));
    }

    #[test]
    fn entities_are_written_as_the_engine_did() {
        let entities = |output| Answer::Entities { output, names: vec!["PER".into()] };
        let (json, nulls) = text(&entities(3), 0);
        assert_eq!((json.as_str(), nulls), (r#"[{"score":null,"word":"\"score\":null"}]"#, 1));
        assert_eq!(text(&entities(3), 1), ("[]".to_string(), 0));
        assert_eq!(text(&entities(0), 0), ("null".to_string(), 1), "no output of strings");
    }

    #[test]
    fn nan_never_wins() {
        assert_eq!(text(&Answer::Score { output: 0 }, 1), ("null".to_string(), 1), "infinity is highest");
    }
}
