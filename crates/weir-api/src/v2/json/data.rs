//! `data`: nested or flat lists, straight into a tensor.

use half::{bf16, f16};
use weir_types::{DType, Error, TensorData};

use super::lexer::Lexer;
use crate::v2::core::datatype;

/// Reads `data` as a tensor of `dtype` and `shape`, which takes `count` elements. The list
/// is flat, or nested as the shape says.
///
/// # Errors
/// `InvalidArgument` where it is not that tensor.
pub(super) fn read_data(
    lexer: &mut Lexer<'_>,
    dtype: DType,
    shape: &[usize],
    count: usize,
) -> Result<TensorData, Error> {
    if dtype == DType::Bfloat16 {
        return Err(Error::invalid("JSON has no BF16: send the tensor as binary data"));
    }
    // An element takes two bytes at least, whatever the shape says.
    let mut data = TensorData::with_capacity(dtype, count.min(lexer.left() / 2 + 1));
    let mut reader = Reader { shape, count, flat: None, data: &mut data };
    reader.list(lexer, 0)?;
    if data.len() != count {
        return Err(lexer.wrong(&format!("shape {shape:?} takes {count} elements, got {}", data.len())));
    }
    Ok(data)
}

struct Reader<'a> {
    shape: &'a [usize],
    count: usize,
    /// Whether the elements lie in one list; known at the first element.
    flat: Option<bool>,
    data: &'a mut TensorData,
}

impl Reader<'_> {
    /// Recurses no deeper than the shape has dimensions.
    fn list(&mut self, lexer: &mut Lexer<'_>, depth: usize) -> Result<(), Error> {
        if depth >= self.shape.len() {
            return Err(lexer.wrong("the lists are nested deeper than the shape says"));
        }
        let mut items = 0usize;
        lexer.list("`data`", |lexer| {
            items += 1;
            if lexer.peek() == Some(b'[') { self.list(lexer, depth + 1) } else { self.element(lexer, depth) }
        })?;
        let nested = !(depth == 0 && self.flat == Some(true)) && self.shape.len() > 1;
        if nested && items != self.shape[depth] && !(depth == 0 && self.count == 0) {
            let takes = self.shape[depth];
            return Err(lexer.wrong(&format!("a list of dimension {depth} has {takes} items, got {items}")));
        }
        Ok(())
    }

    fn element(&mut self, lexer: &mut Lexer<'_>, depth: usize) -> Result<(), Error> {
        let flat = depth == 0;
        if *self.flat.get_or_insert(flat) != flat || (!flat && depth + 1 != self.shape.len()) {
            return Err(lexer.wrong("the lists are nested otherwise than the shape says"));
        }
        if self.data.len() == self.count {
            return Err(lexer.wrong(&format!("more than the {} elements that the shape takes", self.count)));
        }
        push(lexer, self.data)
    }
}

fn push(lexer: &mut Lexer<'_>, data: &mut TensorData) -> Result<(), Error> {
    match data {
        TensorData::Bool(v) => v.push(boolean(lexer)?),
        TensorData::Int8(v) => v.push(int(lexer, DType::Int8)?),
        TensorData::Int16(v) => v.push(int(lexer, DType::Int16)?),
        TensorData::Int32(v) => v.push(int(lexer, DType::Int32)?),
        TensorData::Int64(v) => v.push(int(lexer, DType::Int64)?),
        TensorData::Uint8(v) => v.push(int(lexer, DType::Uint8)?),
        TensorData::Uint16(v) => v.push(int(lexer, DType::Uint16)?),
        TensorData::Uint32(v) => v.push(int(lexer, DType::Uint32)?),
        TensorData::Uint64(v) => v.push(int(lexer, DType::Uint64)?),
        TensorData::Float16(v) => v.push(half(lexer)?),
        // Refused before.
        TensorData::Bfloat16(v) => v.push(bf16::ZERO.to_bits()),
        TensorData::Float32(v) => v.push(float(lexer, DType::Float32, |x: f32| x.is_finite())?),
        TensorData::Float64(v) => v.push(float(lexer, DType::Float64, |x: f64| x.is_finite())?),
        TensorData::String(v) => v.push(lexer.string("an element of BYTES")?.into_owned()),
    }
    Ok(())
}

fn boolean(lexer: &mut Lexer<'_>) -> Result<bool, Error> {
    match lexer.peek() {
        Some(b'0') if number(lexer, DType::Bool)? == "0" => Ok(false),
        Some(b'1') if number(lexer, DType::Bool)? == "1" => Ok(true),
        _ => match lexer.word() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(lexer.wrong("a BOOL is true or false, 1 or 0")),
        },
    }
}

fn number<'a>(lexer: &mut Lexer<'a>, dtype: DType) -> Result<&'a str, Error> {
    match lexer.peek() {
        Some(b'-' | b'0'..=b'9') => lexer.number(),
        _ => Err(lexer.wrong(&format!("an element of {} is a number", datatype(dtype)))),
    }
}

fn int<T: std::str::FromStr>(lexer: &mut Lexer<'_>, dtype: DType) -> Result<T, Error> {
    let text = number(lexer, dtype)?;
    text.parse().map_err(|_| {
        let (least, most) = dtype.int_bounds().unwrap_or_default();
        let shown: String = text.chars().take(32).collect();
        lexer.wrong(&format!("{} is a whole number from {least} to {most}, got {shown}", datatype(dtype)))
    })
}

/// A float that JSON has no number for.
enum Special {
    Nan,
    Infinity,
    Minus,
}

/// NaN and infinities, as bare words (Python's `json`) or in quotes (the documented form).
fn special(lexer: &mut Lexer<'_>) -> Result<Option<Special>, Error> {
    let quoted;
    let word = match lexer.peek() {
        Some(b'0'..=b'9') => return Ok(None),
        Some(b'-') => {
            let mut ahead = lexer.clone();
            match ahead.word() {
                "-" => return Ok(None),
                word => {
                    *lexer = ahead;
                    word
                }
            }
        }
        Some(b'"') => {
            quoted = lexer.string("a number")?;
            &*quoted
        }
        _ => lexer.word(),
    };
    match word {
        "NaN" => Ok(Some(Special::Nan)),
        "Infinity" => Ok(Some(Special::Infinity)),
        "-Infinity" => Ok(Some(Special::Minus)),
        _ => Err(lexer.wrong("an element is a number, \"NaN\", \"Infinity\" or \"-Infinity\"")),
    }
}

fn float<T: std::str::FromStr + From<f32> + Copy>(
    lexer: &mut Lexer<'_>,
    dtype: DType,
    finite: fn(T) -> bool,
) -> Result<T, Error> {
    if let Some(special) = special(lexer)? {
        return Ok(T::from(match special {
            Special::Nan => f32::NAN,
            Special::Infinity => f32::INFINITY,
            Special::Minus => f32::NEG_INFINITY,
        }));
    }
    let text = lexer.number()?;
    // Parsed at its own width: a detour through double would round twice.
    text.parse().ok().filter(|x| finite(*x)).ok_or_else(|| too_large(lexer, text, dtype))
}

fn too_large(lexer: &Lexer<'_>, text: &str, dtype: DType) -> Error {
    let shown: String = text.chars().take(32).collect();
    lexer.wrong(&format!("{shown} is beyond the range of {}", datatype(dtype)))
}

fn half(lexer: &mut Lexer<'_>) -> Result<u16, Error> {
    if let Some(special) = special(lexer)? {
        return Ok(match special {
            Special::Nan => f16::NAN,
            Special::Infinity => f16::INFINITY,
            Special::Minus => f16::NEG_INFINITY,
        }
        .to_bits());
    }
    let text = lexer.number()?;
    let value = text.parse().ok().map(f16::from_f64).filter(|x| x.is_finite());
    value.map(f16::to_bits).ok_or_else(|| too_large(lexer, text, DType::Float16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(json: &str, dtype: DType, shape: &[usize]) -> Result<TensorData, String> {
        let mut lexer = Lexer::new(json.as_bytes()).unwrap();
        let count = weir_types::element_count(shape).unwrap();
        read_data(&mut lexer, dtype, shape, count).map_err(|e| e.message.into_owned())
    }

    #[test]
    fn flat_and_nested_lists_are_one_tensor() {
        let expected = TensorData::Int32(vec![1, 2, 3, 4]);
        for json in ["[1,2,3,4]", "[[1,2],[3,4]]", " [ [ 1 , 2 ] , [ 3 , 4 ] ] "] {
            assert_eq!(data(json, DType::Int32, &[2, 2]).as_ref(), Ok(&expected), "{json}");
        }
        assert_eq!(data("[]", DType::Int32, &[0, 2]), Ok(TensorData::Int32(vec![])));
        assert_eq!(data("[[[7]]]", DType::Int32, &[1, 1, 1]), Ok(TensorData::Int32(vec![7])));
    }

    #[test]
    fn other_lists_are_refused() {
        for json in [
            "[1,2,3]",
            "[1,2,3,4,5]",
            "[[1,2],[3]]",
            "[[1,2,3],[4]]",
            "[[1],[2],[3],[4]]",
            "[1,[2,3],4]",
            "[[1,2],3,4]",
            "[[[1,2],[3,4]]]",
            "[[1,2],[3,4]",
            "[[1,2][3,4]]",
            "1",
            "\"x\"",
            "{}",
            "null",
            "[[],[]]",
            "[[1,2],[3,4],[]]",
        ] {
            assert!(data(json, DType::Int32, &[2, 2]).is_err(), "{json}");
        }
    }

    #[test]
    fn integers_are_refused_instead_of_wrapped() {
        assert_eq!(data("[-128,127]", DType::Int8, &[2]), Ok(TensorData::Int8(vec![-128, 127])));
        assert_eq!(
            data("[18446744073709551615]", DType::Uint64, &[1]),
            Ok(TensorData::Uint64(vec![u64::MAX]))
        );
        for (json, dtype) in [
            ("[128]", DType::Int8),
            ("[-1]", DType::Uint8),
            ("[1.0]", DType::Int32),
            ("[1e3]", DType::Int64),
            ("[true]", DType::Int32),
            ("[\"1\"]", DType::Int32),
            ("[null]", DType::Int32),
            ("[18446744073709551616]", DType::Uint64),
        ] {
            assert!(data(json, dtype, &[1]).is_err(), "{json} {dtype}");
        }
        let text = data("[300]", DType::Uint8, &[1]).unwrap_err();
        assert!(text.contains("UINT8 is a whole number from 0 to 255, got 300"), "{text}");
    }

    #[test]
    fn what_json_has_no_number_for_is_read_in_both_forms() {
        let json = "[NaN, Infinity, -Infinity, \"NaN\", \"Infinity\", \"-Infinity\", -1.5]";
        let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let inf = f64::INFINITY;
        let expected = [f64::NAN, inf, -inf, f64::NAN, inf, -inf, -1.5];
        let Ok(TensorData::Float64(v)) = data(json, DType::Float64, &[7]) else { panic!("not read") };
        assert_eq!(bits(&v), bits(&expected));
        assert!(data(json, DType::Float16, &[7]).is_ok());
        for json in ["[nan]", "[\"inf\"]", "[null]", "[1e999]", "[-Inf]", "[--1]", "[\"1\"]"] {
            assert!(data(json, DType::Float64, &[1]).is_err(), "{json}");
        }
        assert!(data("[1e39]", DType::Float32, &[1]).is_err());
        assert!(data("[65520]", DType::Float16, &[1]).is_err(), "would round to infinity");
        assert_eq!(data("[65504, 0.1]", DType::Float16, &[2]), Ok(TensorData::Float16(vec![0x7bff, 0x2e66])));
        assert!(data("[1]", DType::Bfloat16, &[1]).unwrap_err().contains("BF16"));
    }

    #[test]
    fn booleans_and_texts() {
        let bools = TensorData::Bool(vec![true, false, true, false]);
        assert_eq!(data("[true,false,1,0]", DType::Bool, &[4]), Ok(bools));
        assert!(data("[2]", DType::Bool, &[1]).is_err() && data("[\"true\"]", DType::Bool, &[1]).is_err());
        assert!(data("[1.0]", DType::Bool, &[1]).is_err() && data("[0.5]", DType::Bool, &[1]).is_err());
        assert_eq!(data(r#"["a\n"]"#, DType::String, &[1]), Ok(TensorData::String(vec!["a\n".into()])));
        assert!(data("[1]", DType::String, &[1]).is_err());
    }

    #[test]
    fn a_hostile_shape_costs_nothing() {
        assert!(data("[1]", DType::Int64, &[1 << 50]).is_err());
    }
}
