//! Why two rows do or do not share an entry.

use sha2::{Digest, Sha256};
use weir_artifact::ModelSpec;
use weir_types::{Batch, Tensor, TensorData};

use super::{
    core::Core,
    identity::{Identities, hex},
};
use crate::Caller;

/// Most differences that are told of a pair.
const MAX_TOLD: usize = 100;
/// Most bytes of a value that are shown.
const MAX_SHOWN: usize = 256;

/// What two requests have in common, as the cache sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// Hex digits of the serving digest: model, settings and engine, as they go into every key.
    pub digest: String,
    /// Whether rows have entries of their own; else a request has one as a whole, because a
    /// row's answer depends on the rows beside it, or may.
    pub by_row: bool,
    /// How many entries each of the two requests takes.
    pub entries: [usize; 2],
    /// Entry by entry, for as many as both have.
    pub pairs: Vec<ExplainedPair>,
}

/// An entry of one request beside that of the other.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedPair {
    /// Hex digits of each one's identity (SHA-256 of what is compared), for a caller without a
    /// name: one with a name shares with nobody else.
    pub identities: [String; 2],
    /// Where they differ, up to a hundred places; none where they share the entry.
    pub differences: Vec<Difference>,
}

/// A value in which two rows differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The row of the entry, where it has several.
    pub row: usize,
    /// The field, where one is known for the place; else the input tensor and the element.
    pub field: String,
    /// Both values as the model reads them, texts in quotes, cut at 256 bytes.
    pub values: [String; 2],
}

/// Compares two requests to a model.
pub(super) fn explain(core: &Core, a: &Batch, b: &Batch) -> Explained {
    let by_row = core.by_row;
    let of = |batch| Identities::new(&core.digest, &Caller::Unknown, batch, by_row);
    let (one, two) = (of(a), of(b));
    let entries = [&one, &two].map(|ids| ids.as_ref().map_or(0, Identities::len));
    let pairs = one.as_ref().zip(two.as_ref()).map(|(one, two)| {
        let pair = |entry: usize| {
            let identities = [one, two].map(|ids| hex(&Sha256::digest(ids.get(entry))));
            let differences = if identities[0] == identities[1] {
                Vec::new()
            } else {
                differences(&core.spec, (a, b), by_row.then_some(entry))
            };
            ExplainedPair { identities, differences }
        };
        (0..entries[0].min(entries[1])).map(pair).collect()
    });
    Explained { digest: core.digest.hex(), by_row, entries, pairs: pairs.unwrap_or_default() }
}

/// Where `a` and `b` differ: in one row, or in all of them.
fn differences(spec: &ModelSpec, (a, b): (&Batch, &Batch), row: Option<usize>) -> Vec<Difference> {
    let mut told = Vec::new();
    if row.is_none() && a.rows != b.rows {
        let values = [a, b].map(|batch| batch.rows.to_string());
        told.push(Difference { row: 0, field: "number of rows".to_owned(), values });
    }
    let rows = row.map_or(0..a.rows.min(b.rows), |row| row..row + 1);
    for (input, (one, two)) in a.inputs.iter().zip(&b.inputs).enumerate() {
        if one.shape().get(1..) != two.shape().get(1..) || one.dtype() != two.dtype() {
            let values =
                [one, two].map(|t| format!("{} {:?}", t.dtype(), t.shape().get(1..).unwrap_or_default()));
            told.push(Difference { row: 0, field: input_name(spec, input), values });
            continue;
        }
        let width = one.row_width();
        for (at, row) in rows.clone().enumerate() {
            let differ = |i: &usize| one.row_width() > 0 && !same(one, two, row * width + i);
            for element in (0..width).filter(differ) {
                if told.len() >= MAX_TOLD {
                    return told;
                }
                let values = [one, two].map(|tensor| shown(tensor, row * width + element));
                told.push(Difference { row: at, field: field_name(spec, input, element), values });
            }
        }
    }
    told
}

/// Whether one element is the same in both, bit by bit: the cache tells `0` from `-0`.
fn same(one: &Tensor, two: &Tensor, at: usize) -> bool {
    match (one.data(), two.data()) {
        (TensorData::Float32(a), TensorData::Float32(b)) => {
            a.get(at).map(|v| v.to_bits()) == b.get(at).map(|v| v.to_bits())
        }
        (TensorData::Float64(a), TensorData::Float64(b)) => {
            a.get(at).map(|v| v.to_bits()) == b.get(at).map(|v| v.to_bits())
        }
        _ => shown_whole(one, at) == shown_whole(two, at),
    }
}

fn shown_whole(tensor: &Tensor, at: usize) -> String {
    macro_rules! show {
        ($($variant:ident),*) => {
            match tensor.data() {
                $(TensorData::$variant(v) => v.get(at).map(|value| format!("{value:?}")),)*
            }
        };
    }
    let text = show!(
        Bool, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64, Float16, Bfloat16, Float32, Float64,
        String
    );
    text.unwrap_or_default()
}

fn shown(tensor: &Tensor, at: usize) -> String {
    let mut text = shown_whole(tensor, at);
    if text.len() > MAX_SHOWN {
        let cut = (0..=MAX_SHOWN).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}

fn input_name(spec: &ModelSpec, input: usize) -> String {
    spec.signature.inputs.get(input).map_or_else(|| format!("input {input}"), |input| input.name.clone())
}

/// The field that fills this element, else the input and the element's number.
fn field_name(spec: &ModelSpec, input: usize, element: usize) -> String {
    let fills = |offset: usize, width: Option<usize>| {
        element >= offset && width.is_none_or(|width| element - offset < width)
    };
    let field = spec.schema.fields.iter().find(|f| f.input == input && fills(f.offset, f.width()));
    match field {
        Some(field) if field.width() == Some(1) => field.name.clone(),
        Some(field) => format!("{}[{}]", field.name, element - field.offset),
        None => format!("{}[{element}]", input_name(spec, input)),
    }
}
