//! A rejected value, written back as JSON of bounded length.

use super::doc::{Doc, Kind, NodeId, Text};
use crate::{
    Echo,
    error::{push_json_char, push_json_float, push_json_string},
};

/// Stands for what was cut off.
const CUT: &str = "…";

/// The value at `node`, cut after about `max_bytes`.
pub(super) fn value(doc: &Doc<'_>, node: NodeId, max_bytes: usize) -> Echo {
    let mut writer = Writer { out: String::new(), max_bytes, cut: false };
    writer.value(doc, node);
    Echo::from_json(writer.out)
}

/// A text, cut after about `max_bytes`.
pub(crate) fn text(text: &str, max_bytes: usize) -> Echo {
    let mut writer = Writer { out: String::new(), max_bytes, cut: false };
    writer.string(text);
    Echo::from_json(writer.out)
}

struct Writer {
    out: String,
    max_bytes: usize,
    /// Something was left out: nothing more is added but what closes lists and objects.
    cut: bool,
}

impl Writer {
    fn is_full(&self) -> bool {
        self.cut || self.out.len() >= self.max_bytes
    }

    /// Recursion no deeper than the scanner's limit.
    fn value(&mut self, doc: &Doc<'_>, node: NodeId) {
        match doc.kind(node) {
            Kind::Null => self.out.push_str("null"),
            Kind::True => self.out.push_str("true"),
            Kind::False => self.out.push_str("false"),
            Kind::Int => self.int(doc.raw(node)),
            Kind::Float => push_json_float(&mut self.out, doc.raw(node).parse().unwrap_or(f64::NAN)),
            Kind::Nan => push_json_float(&mut self.out, f64::NAN),
            Kind::Infinity => push_json_float(&mut self.out, f64::INFINITY),
            Kind::MinusInfinity => push_json_float(&mut self.out, f64::NEG_INFINITY),
            Kind::Plain | Kind::Escaped => {
                let Text { chars, .. } = doc.string(node);
                self.string(&chars);
            }
            Kind::List => self.list(doc, node),
            Kind::Object => self.object(doc, node),
        }
    }

    fn int(&mut self, digits: &str) {
        let room = self.max_bytes.saturating_sub(self.out.len());
        if digits.len() <= room.max(20) {
            // Python has no negative zero among its integers.
            self.out.push_str(if digits == "-0" { "0" } else { digits });
        } else {
            self.string(digits);
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            if self.is_full() {
                self.out.push_str(CUT);
                self.cut = true;
                break;
            }
            push_json_char(&mut self.out, c);
        }
        self.out.push('"');
    }

    fn list(&mut self, doc: &Doc<'_>, node: NodeId) {
        self.out.push('[');
        for (i, item) in doc.items(node).enumerate() {
            if self.stop_before(i, |out| push_json_string(out, CUT)) {
                break;
            }
            self.value(doc, item);
        }
        self.out.push(']');
    }

    fn object(&mut self, doc: &Doc<'_>, node: NodeId) {
        self.out.push('{');
        for (i, (key, value)) in doc.entries(node).enumerate() {
            if self.stop_before(i, |out| out.push_str("\"…\":\"…\"")) {
                break;
            }
            self.string(&doc.string(key).chars);
            self.out.push(':');
            if self.cut {
                push_json_string(&mut self.out, CUT);
                break;
            }
            self.value(doc, value);
        }
        self.out.push('}');
    }

    /// Writes the comma before item `i`; or, where there is no room for it, the mark of the
    /// cut, once.
    fn stop_before(&mut self, i: usize, mark: impl FnOnce(&mut String)) -> bool {
        let full = self.is_full();
        if i > 0 && !self.cut {
            self.out.push(',');
        }
        if full && !self.cut {
            mark(&mut self.out);
            self.cut = true;
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::full::scan::scan;

    fn echoed(json: &str, max_bytes: usize) -> String {
        value(&scan(json, 64).unwrap(), 0, max_bytes).as_json().to_owned()
    }

    #[test]
    fn short_values_come_back_whole() {
        let json = r#"{"a":[1,-0.5,"x\n",null,true],"b":{}}"#;
        assert_eq!(echoed(json, 256), json);
        assert_eq!(echoed(r#"{"a":1,"b":2,"a":3}"#, 256), r#"{"a":3,"b":2}"#);
        assert_eq!(
            echoed(r#"[NaN,-Infinity,1e999,"\ud800"]"#, 256),
            "[\"NaN\",\"-Infinity\",\"Infinity\",\"\u{fffd}\"]"
        );
    }

    #[test]
    fn long_values_are_cut_and_stay_json() {
        let deep = format!("{}{}", "[[1234567],".repeat(40), "]".repeat(40)).replace(",]", "]");
        let many =
            format!("{{{}}}", (0..500).map(|i| format!("\"k{i}\":\"é\"")).collect::<Vec<_>>().join(","));
        for json in [format!("\"{}\"", "ü".repeat(5000)), many, deep, format!("[{}]", "9".repeat(4000))] {
            for max in [0, 1, 7, 256] {
                let cut = echoed(&json, max);
                assert!(serde_json::from_str::<serde_json::Value>(&cut).is_ok(), "{cut}");
                assert!(cut.contains(CUT) && cut.len() <= max + 128, "{max}: {cut}");
            }
        }
    }
}
