//! Whether what came back is what a scenario expects.

use regex::Regex;
use serde_json::Value;

/// How JSON is compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Whether objects may have more keys than expected.
    pub(crate) partial: bool,
    /// Largest difference of two numbers.
    pub(crate) approx: f64,
}

/// Every difference, each with the place where it is. An expected string that begins with
/// `re:` is a pattern.
pub(crate) fn differences(expected: &Value, got: &Value, rules: Rules) -> Vec<String> {
    let mut found = Vec::new();
    compare(expected, got, rules, "$", &mut found);
    found
}

fn compare(expected: &Value, got: &Value, rules: Rules, place: &str, found: &mut Vec<String>) {
    match (expected, got) {
        (Value::Object(wanted), Value::Object(have)) => {
            for (key, value) in wanted {
                match have.get(key) {
                    Some(other) => compare(value, other, rules, &format!("{place}.{key}"), found),
                    None => found.push(format!("{place}.{key} is missing, expected {value}")),
                }
            }
            let extra = have.keys().filter(|key| !rules.partial && !wanted.contains_key(*key));
            found.extend(extra.map(|key| format!("{place}.{key} is there: {}", have[key])));
        }
        (Value::Array(wanted), Value::Array(have)) => {
            if wanted.len() != have.len() {
                found.push(format!("{place} has {} entries, expected {}: {got}", have.len(), wanted.len()));
            }
            for (i, (value, other)) in wanted.iter().zip(have).enumerate() {
                compare(value, other, rules, &format!("{place}[{i}]"), found);
            }
        }
        (Value::Number(wanted), Value::Number(have)) => {
            let difference = (wanted.as_f64().unwrap() - have.as_f64().unwrap()).abs();
            if wanted != have && difference > rules.approx {
                found.push(format!("{place} is {have}, expected {wanted} within {}", rules.approx));
            }
        }
        (Value::String(wanted), Value::String(have)) => {
            found.extend(text(wanted, have).map(|d| format!("{place} {d}")))
        }
        _ if expected == got => {}
        _ => found.push(format!("{place} is {got}, expected {expected}")),
    }
}

/// How `got` differs from `expected`, which is a pattern when it begins with `re:`.
pub(crate) fn text(expected: &str, got: &str) -> Option<String> {
    let same = match expected.strip_prefix("re:") {
        Some(pattern) => Regex::new(pattern).unwrap().is_match(got),
        None => expected == got,
    };
    (!same).then(|| format!("is {got:?}, expected {expected:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const EXACT: Rules = Rules { partial: false, approx: 0.0 };

    #[test]
    fn every_difference_is_told_with_its_place() {
        let expected = json!({"a": [1, {"b": "re:^x"}], "c": null, "d": 1.0});
        assert!(
            differences(&expected, &json!({"a": [1, {"b": "xy"}], "c": null, "d": 1.0}), EXACT).is_empty()
        );
        let got = json!({"a": [2, {"b": "y"}, 3], "d": 1.5, "e": 0});
        let found = differences(&expected, &got, EXACT).join("\n");
        for place in
            ["$.a has 3", "$.a[0] is 2", "$.a[1].b is", "$.c is missing", "$.d is 1.5", "$.e is there"]
        {
            assert!(found.contains(place), "{place} in {found}");
        }
    }

    #[test]
    fn partial_and_approximate() {
        let rules = Rules { partial: true, approx: 0.1 };
        assert!(differences(&json!({"a": 1.0}), &json!({"a": 1.05, "b": 2}), rules).is_empty());
        assert_eq!(differences(&json!({"a": 1.0}), &json!({"a": 1.2}), rules).len(), 1);
    }
}
