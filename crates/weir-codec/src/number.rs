//! Numbers as Pydantic reads them from strings, and as narrow dtypes hold them.

use std::borrow::Cow;

use weir_types::{DType, Scalar};

/// Digits after which Python refuses to read an integer
/// (<https://docs.python.org/3/library/stdtypes.html#integer-string-conversion-length-limitation>).
pub(crate) const MAX_INT_DIGITS: usize = 4300;

/// A whole number of any size: beyond `i128` only its sign matters, for no bound is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Int {
    /// The number.
    Exact(i128),
    /// Beyond `i128`.
    Huge {
        /// Below zero.
        negative: bool,
    },
}

impl Int {
    /// Reads `-?[0-9]+`.
    pub(crate) fn from_digits(text: &str) -> Self {
        text.parse().map_or(Self::Huge { negative: text.starts_with('-') }, Self::Exact)
    }

    pub(crate) fn exceeds(self, last: i128) -> bool {
        match self {
            Int::Exact(n) => n > last,
            Int::Huge { negative } => !negative,
        }
    }

    pub(crate) fn falls_below(self, last: i128) -> bool {
        match self {
            Int::Exact(n) => n < last,
            Int::Huge { negative } => negative,
        }
    }
}

/// Why a string is no integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IntTextError {
    /// Not the form of an integer.
    Form,
    /// Too many digits.
    Size,
}

/// A float out of a string: Rust's grammar over trimmed text, or digits with single
/// underscores between them.
pub(crate) fn float_from_text(text: &str) -> Option<f64> {
    text.trim().parse().ok().or_else(|| without_underscores(text)?.parse().ok())
}

/// An integer out of a string: a JSON integer, or one with spaces around it, a plus sign,
/// leading zeros, underscores or a fraction of zeros.
pub(crate) fn int_from_text(text: &str) -> Result<Int, IntTextError> {
    match json_int(text) {
        Err(IntTextError::Form) => {
            let cleaned = clean_int(text).ok_or(IntTextError::Form)?;
            json_int(&cleaned).map_err(|_| IntTextError::Form)
        }
        known => known,
    }
}

/// `-?(0|[1-9][0-9]*)`.
fn json_int(text: &str) -> Result<Int, IntTextError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    if digits.starts_with('0') {
        return if digits == "0" { Ok(Int::Exact(0)) } else { Err(IntTextError::Form) };
    }
    if count > MAX_INT_DIGITS {
        return Err(IntTextError::Size);
    }
    if count == 0 || count != digits.len() { Err(IntTextError::Form) } else { Ok(Int::from_digits(text)) }
}

fn without_underscores(text: &str) -> Option<String> {
    let misplaced = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    (!misplaced && text.contains('_')).then(|| text.replace('_', ""))
}

/// Takes off what Pydantic forgives around the digits; `None` where nothing was taken off
/// or it is beyond help.
fn clean_int(text: &str) -> Option<Cow<'_, str>> {
    let mut rest = text.trim();
    if let Some(unsigned) = rest.strip_prefix('+') {
        if unsigned.starts_with('-') {
            return None;
        }
        rest = unsigned;
    }
    let negative = rest.starts_with('-');
    if negative {
        rest = &rest[1..];
        if rest.starts_with(['-', '+']) {
            return None;
        }
    }
    rest = without_zero_fraction(without_leading_zeros(rest)?);
    let signed = |digits: &str| Cow::Owned(format!("{}{digits}", if negative { "-" } else { "" }));
    if let Some(digits) = without_underscores(rest) {
        return Some(signed(&digits));
    }
    (rest.len() != text.len()).then(|| signed(rest))
}

/// Strips zeros, and underscores among them, before the first other digit; one zero stays
/// where it is the whole number or stands before a point.
fn without_leading_zeros(text: &str) -> Option<&str> {
    let mut chars = text.char_indices();
    match chars.next()?.1 {
        '0' => {}
        '1'..='9' | '-' => return Some(text),
        _ => return None,
    }
    for (at, c) in chars {
        match c {
            '0' | '_' => {}
            '1'..='9' | '-' => return text.get(at..),
            '.' => return text.get(at - 1..),
            _ => return None,
        }
    }
    text.get(text.len() - 1..)
}

fn without_zero_fraction(text: &str) -> &str {
    match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => whole,
        _ => text,
    }
}

/// `(largest magnitude that rounds to a finite value, largest finite value)` of a float
/// dtype.
pub(crate) fn float_range(dtype: DType) -> (f64, f64) {
    // Half way between the largest finite value and the next power of two rounds away (the
    // largest has an odd mantissa), so the largest double below that is the last to fit.
    let edge = |max: f64, power: i32| (((max + 2f64.powi(power)) / 2.0).next_down(), max);
    match dtype {
        DType::Float16 => edge(65504.0, 16),
        DType::Bfloat16 => edge(2f64.powi(127) * (2.0 - 2f64.powi(-7)), 128),
        DType::Float32 => edge(f64::from(f32::MAX), 128),
        _ => (f64::MAX, f64::MAX),
    }
}

/// Rounds to a 16-bit float with `mantissa` explicit mantissa bits (10 for IEEE 754
/// binary16, 7 for bfloat16), to nearest, ties to even, in one rounding.
pub(crate) fn half_bits(x: f64, mantissa: i32) -> u16 {
    let exponent_bits = 15 - mantissa;
    let bias = (1 << (exponent_bits - 1)) - 1;
    let sign = if x.is_sign_negative() { 0x8000 } else { 0u16 };
    let infinity = ((1u16 << exponent_bits) - 1) << mantissa;
    if x.is_nan() {
        return sign | infinity | (1 << (mantissa - 1));
    }
    let magnitude = x.abs();
    if magnitude == 0.0 || magnitude.is_infinite() {
        return sign | if magnitude == 0.0 { 0 } else { infinity };
    }
    // Below the smallest normal number the spacing stays that of the smallest exponent. A
    // subnormal double has exponent field 0 and lies far below either type's range.
    let exponent = (((magnitude.to_bits() >> 52) as i32) - 1023).clamp(1 - bias, 1023);
    // `magnitude` in units of the last place: exact, for both factors are powers of two.
    // Two steps because 2^(mantissa - exponent) alone may leave the range of doubles.
    let scaled = magnitude * 2f64.powi(-exponent) * 2f64.powi(mantissa);
    let units = scaled.round_ties_even() as u64;
    // Units carry into the exponent field by themselves, up to infinity.
    let bits = units + (((exponent + bias - 1) as u64) << mantissa);
    sign | u16::try_from(bits).unwrap_or(infinity).min(infinity)
}

/// A value as Python's `repr` prints it: `'a'`, `1`, `1.0`, `True`.
pub(crate) fn python_repr(value: &Scalar) -> String {
    match value {
        Scalar::Bool(true) => "True".into(),
        Scalar::Bool(false) => "False".into(),
        Scalar::Int(n) => n.to_string(),
        Scalar::Float(x) => python_float(*x),
        Scalar::String(text) => python_str(text),
    }
}

/// A float as Python prints it: `1.0`, `1e+16`, `1e-05`, `inf`.
pub(crate) fn python_float(x: f64) -> String {
    if !x.is_finite() {
        return if x.is_nan() { "nan".into() } else { x.to_string() };
    }
    let scientific = format!("{x:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return if x.fract() == 0.0 { format!("{x:.1}") } else { x.to_string() };
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn python_str(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            c if c == quote || c == '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() && u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_out_of_strings_are_pydantics() {
        for (text, want) in
            [(" 3 ", 3.0), ("3\n", 3.0), ("+3", 3.0), (".5", 0.5), ("5.", 5.0), ("1e3", 1e3), ("3_000", 3e3)]
        {
            assert_eq!(float_from_text(text), Some(want), "{text}");
        }
        for text in ["", "1__0", "_1", "1_", "0x10", "1,5", "true", "١", "1e", " 1_0"] {
            assert_eq!(float_from_text(text), None, "{text}");
        }
        assert_eq!(float_from_text("1e400"), Some(f64::INFINITY));
    }

    #[test]
    fn integers_out_of_strings_are_pydantics() {
        for (text, want) in
            [("-0", 0), ("007", 7), (" +1 ", 1), ("-1_000", -1000), ("0_0", 0), ("12.000", 12), ("00.0", 0)]
        {
            assert_eq!(int_from_text(text), Ok(Int::Exact(want)), "{text}");
        }
        for text in ["", "1.5", "1e3", "--1", "+-1", "-+1", "1.", ".0", "0x1", "1__0", "_1", "٣"] {
            assert_eq!(int_from_text(text), Err(IntTextError::Form), "{text}");
        }
        assert_eq!(int_from_text(&"9".repeat(4300)), Ok(Int::Huge { negative: false }));
        assert_eq!(int_from_text(&"9".repeat(4301)), Err(IntTextError::Size));
    }

    #[test]
    fn half_floats_round_once_to_even() {
        for (x, f16, bf16) in [
            (1.0, 0x3c00, 0x3f80),
            (-2.0, 0xc000, 0xc000),
            (65504.0, 0x7bff, 0x4780),
            (65519.999, 0x7bff, 0x4780),
            (65520.0, 0x7c00, 0x4780),
            (5.960464477539063e-8, 0x0001, 0x3380),
            (2.9802322387695312e-8, 0x0000, 0x3300),
            (2.98023223876954e-8, 0x0001, 0x3300),
            (6.103515625e-5, 0x0400, 0x3880),
            (f64::INFINITY, 0x7c00, 0x7f80),
            (-0.0, 0x8000, 0x8000),
            (5e-324, 0x0000, 0x0000),
            // Half way to 1 + 2^-10, and a little more than that: rounding to float32 first
            // would make both the same.
            (1.0 + 2f64.powi(-11), 0x3c00, 0x3f80),
            (1.0 + 2f64.powi(-11) + 2f64.powi(-40), 0x3c01, 0x3f80),
        ] {
            assert_eq!((half_bits(x, 10), half_bits(x, 7)), (f16, bf16), "{x:e}");
        }
    }

    #[test]
    fn the_widest_value_is_the_last_that_stays_finite() {
        for dtype in [DType::Float16, DType::Bfloat16, DType::Float32] {
            let infinite = |x: f64| match dtype {
                DType::Float32 => (x as f32).is_infinite(),
                DType::Float16 => half_bits(x, 10) == 0x7c00,
                _ => half_bits(x, 7) == 0x7f80,
            };
            let (widest, max) = float_range(dtype);
            assert!(!infinite(widest) && infinite(widest.next_up()) && max < widest, "{dtype}");
        }
    }

    #[test]
    fn reprs_are_pythons() {
        for (x, want) in [
            (1.0, "1.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (-0.0, "-0.0"),
        ] {
            assert_eq!(python_float(x), want);
        }
        assert_eq!(python_repr(&Scalar::String("a'b\n".into())), "\"a'b\\n\"");
        assert_eq!(python_repr(&Scalar::Bool(true)), "True");
    }
}
