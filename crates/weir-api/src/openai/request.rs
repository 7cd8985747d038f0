//! The body of a request for embeddings.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::Refusal;

/// What a request may hold.
const KEYS: [&str; 5] = ["model", "input", "encoding_format", "dimensions", "user"];

/// The words for [`Encoding`].
pub(crate) const FORMATS: [&str; 2] = ["float", "base64"];

/// Longest part of a caller's text that an error repeats, characters.
const MAX_ECHO: usize = 64;

/// Longest reason of a refusal, characters.
const MAX_REASON: usize = 320;

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Encoding {
    /// A list of numbers.
    #[default]
    Float,
    /// Little-endian float32 in base64.
    Base64,
}

/// A request, decoded.
#[derive(Debug, PartialEq, Default)]
pub(super) struct Request {
    pub(super) model: String,
    pub(super) input: Vec<String>,
    pub(super) encoding: Encoding,
    pub(super) dimensions: Option<u64>,
}

/// Reads a body with at most `max_texts` texts.
///
/// # Errors
/// The first thing that is wrong, with the parameter that it is about.
pub(super) fn read(body: &[u8], max_texts: usize) -> Result<Request, Refusal> {
    let at = Cell::new(None);
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = BodySeed { max_texts, at: &at }.deserialize(&mut json).and_then(|request| {
        at.set(None);
        json.end().map(|()| request)
    });
    // serde repeats what it found, however long that is.
    let short = |text: String| text.chars().take(MAX_REASON).collect::<String>();
    let refuse = |e: serde_json::Error| match (at.get(), e.is_data()) {
        (Some(parameter), true) => Refusal::invalid(parameter, short(format!("`{parameter}`: {e}"))),
        _ => weir_types::Error::invalid(short(format!("the body is no request for embeddings: {e}"))).into(),
    };
    read.map_err(refuse)
}

/// Reads the object; `at` is the parameter that is being read.
struct BodySeed<'a> {
    max_texts: usize,
    at: &'a Cell<Option<&'static str>>,
}

impl<'de> DeserializeSeed<'de> for BodySeed<'_> {
    type Value = Request;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Request, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for BodySeed<'_> {
    type Value = Request;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `model` and `input`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Request, A::Error> {
        let mut request = Request::default();
        let mut seen = [false; KEYS.len()];
        while let Some(key) = map.next_key::<String>()? {
            let Some(index) = KEYS.iter().position(|known| *known == key) else {
                let key: String = key.chars().take(MAX_ECHO).collect();
                return Err(A::Error::custom(format!("`{key}` is not taken, only {}", KEYS.join(", "))));
            };
            self.at.set(Some(KEYS[index]));
            if std::mem::replace(&mut seen[index], true) {
                return Err(A::Error::custom("is there twice"));
            }
            match index {
                0 => request.model = map.next_value()?,
                1 => request.input = map.next_value_seed(InputSeed { max_texts: self.max_texts })?,
                2 => request.encoding = encoding(map.next_value()?)?,
                3 => request.dimensions = map.next_value()?,
                // Whoever the caller's own user is, it changes no answer.
                _ => drop(map.next_value::<Option<String>>()?),
            }
            self.at.set(None);
        }
        for index in [0, 1] {
            if !seen[index] {
                self.at.set(Some(KEYS[index]));
                return Err(A::Error::custom("is missing"));
            }
        }
        Ok(request)
    }
}

fn encoding<E: serde::de::Error>(word: Option<String>) -> Result<Encoding, E> {
    match word.as_deref() {
        None | Some("float") => Ok(Encoding::Float),
        Some("base64") => Ok(Encoding::Base64),
        Some(other) => {
            let other: String = other.chars().take(MAX_ECHO).collect();
            Err(E::custom(format!("is {}, got `{other}`", FORMATS.join(" or "))))
        }
    }
}

/// One text, or a list of them.
struct InputSeed {
    max_texts: usize,
}

impl<'de> DeserializeSeed<'de> for InputSeed {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<String>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for InputSeed {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element_seed(TextSeed)? {
            if texts.len() == self.max_texts {
                return Err(A::Error::custom(format!("at most {} texts are taken at once", self.max_texts)));
            }
            texts.push(text);
        }
        match texts.is_empty() {
            true => Err(A::Error::custom("is an empty list")),
            false => Ok(texts),
        }
    }
}

/// One text of a list. Token ids, which OpenAI takes too, are another vocabulary's.
struct TextSeed;

impl TextSeed {
    fn token_ids<E: serde::de::Error>(self) -> Result<String, E> {
        Err(E::custom(
            "token ids are not taken, since each model has a vocabulary of its own: send texts (LangChain: \
             check_embedding_ctx_length=False)",
        ))
    }
}

impl<'de> DeserializeSeed<'de> for TextSeed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextSeed {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<String, E> {
        self.token_ids()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        self.token_ids()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: &str) -> (Option<&'static str>, String) {
        let refusal = read(body.as_bytes(), 2).unwrap_err();
        (refusal.parameter, refusal.error.message.into_owned())
    }

    #[test]
    fn a_text_or_several_in_any_order_of_keys() {
        let one =
            read(br#" {"input": "a\u00e4", "model": "m", "user": "u", "dimensions": null} "#, 2).unwrap();
        assert_eq!(
            (one.model.as_str(), &one.input[..], one.encoding),
            ("m", &["aä".to_owned()][..], Encoding::Float)
        );
        let two =
            read(br#"{"model":"m","input":["",""],"encoding_format":"base64","dimensions":3}"#, 2).unwrap();
        assert_eq!((two.input.len(), two.encoding, two.dimensions), (2, Encoding::Base64, Some(3)));
    }

    #[test]
    fn what_is_wrong_is_told_by_its_parameter() {
        for (body, parameter, words) in [
            (r#"{"model":"m"}"#, Some("input"), "`input`: is missing"),
            (r#"{"input":"a"}"#, Some("model"), "`model`: is missing"),
            (r#"{"model":"m","input":[]}"#, Some("input"), "is an empty list"),
            (r#"{"model":"m","input":["a","b","c"]}"#, Some("input"), "at most 2 texts"),
            (r#"{"model":"m","input":[1,2]}"#, Some("input"), "token ids are not taken"),
            (r#"{"model":"m","input":[[1,2],[3]]}"#, Some("input"), "token ids are not taken"),
            (r#"{"model":"m","input":[null]}"#, Some("input"), "expected a text"),
            (r#"{"model":"m","input":{}}"#, Some("input"), "expected a text or a list of texts"),
            (r#"{"model":5,"input":"a"}"#, Some("model"), "expected a string"),
            (r#"{"model":"m","model":"m","input":"a"}"#, Some("model"), "is there twice"),
            (
                r#"{"model":"m","input":"a","encoding_format":"int8"}"#,
                Some("encoding_format"),
                "float or base64, got `int8`",
            ),
            (r#"{"model":"m","input":"a","dimensions":-1}"#, Some("dimensions"), "invalid value"),
            (r#"{"model":"m","input":"a","user":{}}"#, Some("user"), "expected a string"),
            (r#"{"model":"m","input":"a","truncate":1}"#, None, "`truncate` is not taken"),
            ("", None, "no request for embeddings: EOF"),
            ("[]", None, "expected an object with `model` and `input`"),
            (r#"{"model":"m","input":"a"} x"#, None, "trailing characters"),
            (r#"{"model":"m","input":"\ud800"}"#, None, "no request"),
        ] {
            let (at, text) = told(body);
            assert!(at == parameter && text.contains(words), "{body}: {at:?} {text}");
        }
    }
}
