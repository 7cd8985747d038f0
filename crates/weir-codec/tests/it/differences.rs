//! What differs from FastAPI on purpose, as exact predicates: the list of
//! `docs/reference/validation.md`, "What differs", and nothing else.

use std::collections::BTreeMap;

use weir_codec::{FieldError, Rejection, write_detail};

/// How one answer compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    /// Nested deeper than 64 levels: 400.
    Depth,
    /// UTF-16, UTF-32 or encoded surrogates: only UTF-8 is read.
    Encoding,
    /// FastAPI fails to render the error and answers 500.
    Render,
    /// Only the first 100 errors are told.
    MoreErrors,
    /// Long values and keys are cut.
    Cut,
    /// A finite number that a narrow float cannot hold is refused.
    Narrow,
    /// Lists of unequal lengths are refused.
    Ragged,
    /// Bytes beyond ASCII in a query string are UTF-8, not Latin-1.
    RawQuery,
    /// Of a number in quotes that is no 64-bit member of an enum, Pydantic repeats the number
    /// without its quotes.
    EnumInput,
    /// Python 3.13 has another message for a comma before a closing bracket.
    TrailingComma,
}

use Difference as D;

impl Difference {
    /// Every difference that the cases must show, so that the list cannot grow stale.
    pub(crate) const EXPECTED: [D; 9] = [
        D::EnumInput,
        D::RawQuery,
        D::Depth,
        D::Encoding,
        D::Render,
        D::MoreErrors,
        D::Cut,
        D::Narrow,
        D::Ragged,
    ];
}

/// How often each was seen.
pub(crate) type Counts = BTreeMap<Difference, usize>;

const MAX_ERRORS: usize = 100;
const MAX_ECHO: usize = 256;

/// One error in FastAPI's text: before its input, the input, after it.
pub(crate) type Pieces = [String; 3];

/// Compares the rejection of a body with FastAPI's answer; tells the differences that
/// explain what is unequal.
pub(crate) fn explain(
    body: &[u8],
    status: u16,
    expected: &[Pieces],
    ours: &Rejection,
) -> Result<Vec<Difference>, String> {
    let errors = match (ours, status) {
        (Rejection::Unparsable, 400) => return Ok(Vec::new()),
        (Rejection::Unparsable, _) if depth(body) > 64 => return Ok(vec![D::Depth]),
        (_, _) if !is_utf8_json(body) => return Ok(vec![D::Encoding]),
        (Rejection::Unparsable, _) => return Err("400".into()),
        (Rejection::Invalid(_), 400) => return Err("not 400".into()),
        (Rejection::Invalid(errors), _) => errors,
    };
    let mut found = if status == 500 { vec![D::Render] } else { Vec::new() };
    found.extend(compare(expected, errors)?);
    Ok(found)
}

/// Compares lists of errors.
pub(crate) fn compare(expected: &[Pieces], ours: &[FieldError]) -> Result<Vec<Difference>, String> {
    let mut found = Vec::new();
    let (own, shared): (Vec<_>, Vec<_>) = ours.iter().partition(|e| own_rule(e).is_some());
    found.extend(own.into_iter().filter_map(own_rule));
    let mut expected = expected;
    if ours.len() == MAX_ERRORS && expected.len() > shared.len() {
        found.push(D::MoreErrors);
        expected = &expected[..shared.len()];
    }
    if shared.len() != expected.len() {
        return Err(format!("{} errors, FastAPI has {}", shared.len(), expected.len()));
    }
    for (ours, expected) in shared.iter().zip(expected) {
        found.extend(same_error(expected, &pieces(ours))?);
    }
    Ok(found)
}

/// Which rule of Weir's own an error is about, if it is.
fn own_rule(error: &FieldError) -> Option<Difference> {
    const WIDEST: [&str; 3] = ["65504.0", "3.3895313892515355e+38", "3.4028234663852886e+38"];
    let text = pieces(error);
    let bound = text[2].trim_start_matches(",\"ctx\":{\"le\":").trim_start_matches(",\"ctx\":{\"ge\":-");
    if WIDEST.iter().any(|w| bound.strip_prefix(w) == Some("}}")) {
        return Some(D::Narrow);
    }
    let ragged = error.msg.starts_with("Value error, lists of one request must be of one length here: ")
        || error.msg.starts_with("Value error, all lists must be of one length: ");
    (error.kind == "value_error" && ragged).then_some(D::Ragged)
}

/// Our error as text, cut as the oracle cuts FastAPI's.
fn pieces(error: &FieldError) -> Pieces {
    let mut out = Vec::new();
    write_detail(std::slice::from_ref(error), &mut out);
    let text = String::from_utf8(out).unwrap();
    let text = text.strip_prefix("{\"detail\":[").and_then(|t| t.strip_suffix("]}")).unwrap();
    let mut context = Vec::new();
    write_detail(
        &[FieldError { input: error.input.clone(), loc: Vec::new(), msg: String::new(), ..error.clone() }],
        &mut context,
    );
    let input = error.input.as_json();
    // The context comes last and its length is known from an error without a message.
    let bare =
        format!("{{\"detail\":[{{\"type\":\"{}\",\"loc\":[],\"msg\":\"\",\"input\":{input}", error.kind);
    let tail_len = context.len() - bare.len() - "]}".len();
    let (rest, tail) = text.split_at(text.len() - tail_len);
    let head = rest.strip_suffix(input).unwrap();
    [head.into(), input.into(), tail.into()]
}

fn same_error(expected: &Pieces, ours: &Pieces) -> Result<Vec<Difference>, String> {
    let mut found = Vec::new();
    if expected[0] != ours[0] {
        if !is_cut(&expected[0], &ours[0]) {
            return Err(format!("{ours:?}, FastAPI has {expected:?}"));
        }
        found.push(D::Cut);
    }
    let unquoted = ours[1].trim_matches('"') == expected[1] && ours[0].contains("\"int_parsing_size\"");
    if expected[1] != ours[1] && unquoted {
        found.push(D::EnumInput);
    } else if expected[1] != ours[1] {
        if expected[1].len() <= MAX_ECHO || !is_cut(&expected[1], &ours[1]) {
            return Err(format!("input {:?}, FastAPI has {:?}", ours[1], expected[1]));
        }
        found.push(D::Cut);
    }
    if expected[2] != ours[2] {
        let comma = expected[2].contains("Illegal trailing comma before end of");
        if !comma {
            return Err(format!("{ours:?}, FastAPI has {expected:?}"));
        }
        found.push(D::TrailingComma);
    }
    Ok(found)
}

/// Whether `ours` is the beginning of `whole` with `…` where it was cut, about where the
/// limit says.
fn is_cut(whole: &str, ours: &str) -> bool {
    let Some((kept, rest)) = ours.split_once('…') else { return false };
    // The mark may be an item of its own, or follow a number's digits in quotes.
    let unquoted = kept.rfind('"').map(|at| format!("{}{}", &kept[..at], &kept[at + 1..]));
    let is_prefix = whole.starts_with(kept) || unquoted.is_some_and(|k| whole.starts_with(&k));
    is_prefix && kept.len() + 8 >= MAX_ECHO && ours.len() <= MAX_ECHO + 256 && rest.len() < 200
}

/// Whether the body is JSON text as RFC 8259 wants it: UTF-8. Python guesses UTF-16 and
/// UTF-32 from zero bytes and byte order marks, and lets encoded surrogates through.
fn is_utf8_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok() && !body.iter().take(4).any(|&b| b == 0)
}

/// Deepest nesting of a text's brackets outside strings.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for &byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}
