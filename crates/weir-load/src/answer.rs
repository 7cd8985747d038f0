//! Whether an answer is the right one.

use serde_json::{Value, json};

use crate::{body::wire, plan::Face};

/// What must come back.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// The answer as JSON. An object names what must be there: other keys are free.
    pub value: Value,
    /// How far numbers may be away: `|a − b| ≤ tolerance · max(1, |b|)`.
    pub tolerance: f64,
    /// The bytes of an answer known to be right: the same ones need no reading.
    pub bytes: Option<Vec<u8>>,
}

impl Expected {
    /// Whether an answer on `face` is right; `json` is how many bytes of it are JSON where
    /// tensors follow.
    ///
    /// # Errors
    /// What differs, in a few words that are the same for every such answer.
    pub fn check(&self, face: Face, body: &[u8], json: Option<usize>) -> Result<(), String> {
        if self.bytes.as_deref() == Some(body) {
            return Ok(());
        }
        let found = read(face, body, json).ok_or("the answer cannot be read")?;
        match difference(&self.value, &found, self.tolerance, 0) {
            None => Ok(()),
            Some(words) => Err(words),
        }
    }
}

/// An answer as JSON; tensors in V2's form, `{"outputs": [{"name", "datatype", "shape", "data"}]}`.
pub(crate) fn read(face: Face, body: &[u8], json: Option<usize>) -> Option<Value> {
    match face {
        Face::Typed | Face::V2 => serde_json::from_slice(body).ok(),
        Face::V2Binary => binary(body, json),
        Face::Grpc => wire::read_response(body),
    }
}

/// Triton's binary form: JSON, and tensors behind it in the order of the outputs.
fn binary(body: &[u8], json: Option<usize>) -> Option<Value> {
    let (head, mut rest) = body.split_at_checked(json.unwrap_or(body.len()))?;
    let mut value: Value = serde_json::from_slice(head).ok()?;
    for output in value.get_mut("outputs")?.as_array_mut()? {
        let Some(size) = output.pointer("/parameters/binary_data_size").and_then(Value::as_u64) else {
            continue;
        };
        let (tensor, after) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        rest = after;
        let data = wire::elements(output.get("datatype")?.as_str()?, tensor)?;
        output.as_object_mut()?.insert("data".into(), data);
    }
    Some(value)
}

/// The first difference, in words without values: a report counts equal words together.
fn difference(want: &Value, found: &Value, tolerance: f64, depth: usize) -> Option<String> {
    const DEEPEST: usize = 64;
    if depth > DEEPEST {
        return Some("the expected answer is nested too deep".into());
    }
    let under = |at: String| move |words: String| format!("{at}: {words}");
    match (want, found) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64()?, b.as_f64()?);
            // Written so that NaN, which JSON cannot hold, would differ.
            let near = (a - b).abs() <= tolerance * a.abs().max(1.0);
            (!near).then(|| "another number".into())
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).find_map(|(a, b)| difference(a, b, tolerance, depth + 1))
        }
        (Value::Array(_), Value::Array(_)) => Some("another number of items".into()),
        (Value::Object(a), Value::Object(b)) => a.iter().find_map(|(key, a)| match b.get(key) {
            Some(b) => difference(a, b, tolerance, depth + 1).map(under(key.clone())),
            None => Some(format!("no `{key}`")),
        }),
        (a, b) => (a != b).then(|| "another value".into()),
    }
}

/// What `?outputs=prediction` answers for rows whose predictions are known.
pub(crate) fn predictions(values: Vec<Value>) -> Value {
    let record = |value: Value| json!({ "prediction": value });
    json!({ "predictions": values.into_iter().map(record).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(want: Value, found: &Value) -> Result<(), String> {
        let expected = Expected { value: want, tolerance: 1e-3, bytes: None };
        expected.check(Face::Typed, found.to_string().as_bytes(), None)
    }

    #[test]
    fn numbers_may_be_near_and_other_keys_are_free() {
        let want = json!({"predictions": [{"label": "a", "score": 0.5}, 2000]});
        assert_eq!(
            check(want.clone(), &json!({"predictions": [{"label": "a", "score": 0.5004}, 2001], "x": 1})),
            Ok(())
        );
        for (found, words) in [
            (
                json!({"predictions": [{"label": "b", "score": 0.5}, 2000]}),
                "predictions: label: another value",
            ),
            (json!({"predictions": [{"label": "a", "score": 0.502}, 2000]}), "another number"),
            (json!({"predictions": [{"label": "a", "score": 0.5}]}), "another number of items"),
            (json!({"predictions": [{"label": "a"}, 2000]}), "no `score`"),
            (json!({"predictions": [{"label": "a", "score": "0.5"}, 2000]}), "another value"),
        ] {
            let told = check(want.clone(), &found).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn known_bytes_need_no_reading() {
        let expected = Expected { value: Value::Null, tolerance: 0.0, bytes: Some(b"not json".to_vec()) };
        assert_eq!(expected.check(Face::Typed, b"not json", None), Ok(()));
        assert!(expected.check(Face::Typed, b"other", None).unwrap_err().contains("read"));
    }

    #[test]
    fn tensors_behind_the_json_are_read_by_their_types() {
        let head = br#"{"outputs":[{"name":"a","datatype":"INT64","shape":[2],"parameters":{"binary_data_size":16}},{"name":"b","datatype":"FP32","shape":[1],"data":[1.5]},{"name":"c","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}}]}"#;
        let mut body = head.to_vec();
        body.extend([7i64, -1].iter().flat_map(|n| n.to_le_bytes()));
        body.extend(b"\x02\0\0\0hi");
        let want = json!({"outputs": [{"data": [7, -1]}, {"data": [1.5]}, {"data": ["hi"]}]});
        let expected = Expected { value: want, tolerance: 0.0, bytes: None };
        assert_eq!(expected.check(Face::V2Binary, &body, Some(head.len())), Ok(()));
        body.truncate(head.len() + 10);
        assert!(expected.check(Face::V2Binary, &body, Some(head.len())).is_err());
    }
}
