//! `data` of a JSON tensor: flat or nested lists, row-major.

use std::fmt;

use half::f16;
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, SeqAccess, Visitor},
};
use weir_types::{DType, TensorData};

/// Reads `count` elements of `dtype`, which the caller has seen to fit the text.
///
/// # Errors
/// A sentence where there are more or fewer of them, or of another kind.
pub(super) fn read_data(dtype: DType, count: usize, json: &str) -> Result<TensorData, String> {
    // Two bytes an element at the least, but for the last one.
    if count > json.len() {
        return Err("there are fewer elements than the shape takes".into());
    }
    macro_rules! read {
        ($variant:ident) => {
            TensorData::$variant(list(json, count)?)
        };
    }
    Ok(match dtype {
        DType::Bool => read!(Bool),
        DType::Int8 => read!(Int8),
        DType::Int16 => read!(Int16),
        DType::Int32 => read!(Int32),
        DType::Int64 => read!(Int64),
        DType::Uint8 => read!(Uint8),
        DType::Uint16 => read!(Uint16),
        DType::Uint32 => read!(Uint32),
        DType::Uint64 => read!(Uint64),
        DType::Float32 => read!(Float32),
        DType::Float64 => read!(Float64),
        DType::String => read!(String),
        DType::Float16 => {
            let half = |x: &f32| f16::from_f32(*x).to_bits();
            TensorData::Float16(list::<f32>(json, count)?.iter().map(half).collect())
        }
        DType::Bfloat16 => return Err("BF16 has no form in JSON".into()),
    })
}

fn list<T: Element>(json: &str, count: usize) -> Result<Vec<T>, String> {
    let mut into = Vec::with_capacity(count);
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read = Flat { into: &mut into, most: count }.deserialize(&mut deserializer);
    read.and_then(|()| deserializer.end()).map_err(|e| e.to_string())?;
    if into.len() == count {
        return Ok(into);
    }
    Err(format!("there are {} elements, the shape takes {count}", into.len()))
}

/// One element, from whatever JSON has for it.
trait Element: Sized {
    fn number(_: Number) -> Option<Self> {
        None
    }
    fn boolean(_: bool) -> Option<Self> {
        None
    }
    fn text(_: &str) -> Option<Self> {
        None
    }
}

#[derive(Clone, Copy)]
enum Number {
    Whole(i128),
    Float(f64),
}

macro_rules! whole {
    ($($t:ty),*) => {$(
        impl Element for $t {
            fn number(n: Number) -> Option<Self> {
                match n {
                    Number::Whole(n) => n.try_into().ok(),
                    Number::Float(_) => None,
                }
            }
        }
    )*};
}
whole!(i8, i16, i32, i64, u8, u16, u32, u64);

impl Element for f64 {
    fn number(n: Number) -> Option<Self> {
        Some(match n {
            Number::Whole(n) => n as f64,
            Number::Float(x) => x,
        })
    }

    /// What JSON has no number for, as Weir and others write it.
    fn text(text: &str) -> Option<Self> {
        match text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        }
    }
}

impl Element for f32 {
    fn number(n: Number) -> Option<Self> {
        let wide = f64::number(n)?;
        let narrow = wide as f32;
        (narrow.is_finite() || !wide.is_finite()).then_some(narrow)
    }

    fn text(text: &str) -> Option<Self> {
        f64::text(text).map(|x| x as f32)
    }
}

impl Element for bool {
    fn boolean(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl Element for String {
    fn text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

/// Appends the elements of nested lists. The depth is bounded by serde_json's own limit.
struct Flat<'a, T> {
    into: &'a mut Vec<T>,
    most: usize,
}

impl<T> Flat<'_, T> {
    fn push<E: Error>(self, element: Option<T>) -> Result<(), E> {
        let element = element.ok_or_else(|| E::custom("an element is not of the tensor's type"))?;
        if self.into.len() == self.most {
            return Err(E::custom(format_args!("there are more than {} elements", self.most)));
        }
        self.into.push(element);
        Ok(())
    }
}

impl<'de, T: Element> DeserializeSeed<'de> for Flat<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Element> Visitor<'de> for Flat<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an element or a list of them")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.push(T::boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.push(T::number(Number::Whole(value.into())))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.push(T::number(Number::Whole(value.into())))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.push(T::number(Number::Float(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.push(T::text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Flat { into: self.into, most: self.most })?.is_some() {}
        Ok(())
    }
}
