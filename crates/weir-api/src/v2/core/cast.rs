//! Columns of another number type than the field's: what keeps its value is taken.
//!
//! Clients that send tables choose types by what the table holds: pandas makes whole numbers
//! INT64 and all others FP64, whatever the model was trained on (MLServer's pandas codec sends
//! them so). The typed face takes any JSON number for such a field, so a column is taken where
//! each of its values is, exactly, one of the field's own type. FP64 to FP32 is the one pair
//! that rounds, to the nearest as the typed face does: 0.1 has no exact FP32, and to refuse it
//! would refuse every table with a decimal fraction.

use half::{bf16, f16};
use weir_types::{DType, Tensor, TensorData};

/// Whether two values are one: NaN is itself.
fn same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

/// A number of any type: whole ones as such, since 64 bits of them do not fit an FP64.
#[derive(Debug, Clone, Copy)]
enum Number {
    Whole(i128),
    Real(f64),
}

impl Number {
    /// The whole number that this is.
    fn whole(self) -> Option<i128> {
        match self {
            Number::Whole(n) => Some(n),
            // All whole FP64 below 2^64, and one beyond, fit.
            Number::Real(x) if x.fract() == 0.0 && x.abs() <= 2f64.powi(64) => Some(x as i128),
            Number::Real(_) => None,
        }
    }

    /// This as FP64, where it is one.
    fn real(self) -> Option<f64> {
        match self {
            Number::Real(x) => Some(x),
            Number::Whole(n) => Some(n as f64).filter(|x| *x as i128 == n),
        }
    }
}

/// `tensor` as `dtype`: the first value that has no equal there, with its index, otherwise.
///
/// Flags and text are no numbers, and no numbers become them: `None` for those.
pub(super) fn cast(tensor: &Tensor, dtype: DType) -> Option<Result<Tensor, (usize, String)>> {
    let numbers = numbers(tensor.data())?;
    let rounds = (tensor.dtype(), dtype) == (DType::Float64, DType::Float32);
    let whole = |n: &Number| n.whole();
    let real = |n: &Number, to: fn(f64) -> f64| n.real().filter(|x| same(to(*x), *x));
    macro_rules! whole {
        ($variant:ident, $type:ty) => {
            collect(&numbers, |n| whole(n).and_then(|n| <$type>::try_from(n).ok())).map(TensorData::$variant)
        };
    }
    let data = match dtype {
        DType::Bool | DType::String => return None,
        DType::Int8 => whole!(Int8, i8),
        DType::Int16 => whole!(Int16, i16),
        DType::Int32 => whole!(Int32, i32),
        DType::Int64 => whole!(Int64, i64),
        DType::Uint8 => whole!(Uint8, u8),
        DType::Uint16 => whole!(Uint16, u16),
        DType::Uint32 => whole!(Uint32, u32),
        DType::Uint64 => whole!(Uint64, u64),
        DType::Float64 => collect(&numbers, |n| n.real()).map(TensorData::Float64),
        // Rounding to infinity is not rounding to the nearest.
        DType::Float32 if rounds => collect(&numbers, |n| {
            n.real().map(|x| (x, x as f32)).filter(|(x, y)| y.is_finite() || !x.is_finite()).map(|(_, y)| y)
        })
        .map(TensorData::Float32),
        DType::Float32 => {
            collect(&numbers, |n| real(n, |x| f64::from(x as f32)).map(|x| x as f32)).map(TensorData::Float32)
        }
        DType::Float16 => {
            collect(&numbers, |n| real(n, |x| f16::from_f64(x).to_f64()).map(|x| f16::from_f64(x).to_bits()))
                .map(TensorData::Float16)
        }
        DType::Bfloat16 => collect(&numbers, |n| {
            real(n, |x| bf16::from_f64(x).to_f64()).map(|x| bf16::from_f64(x).to_bits())
        })
        .map(TensorData::Bfloat16),
    };
    let data = data.map_err(|at| (at, shown(numbers[at])));
    Some(data.map(|data| {
        // As many elements as before.
        Tensor::new(tensor.shape().to_vec(), data).unwrap_or_else(|_| tensor.clone())
    }))
}

fn shown(number: Number) -> String {
    match number {
        Number::Whole(n) => n.to_string(),
        Number::Real(x) => x.to_string(),
    }
}

/// All of them, or where the first is that does not work.
fn collect<T>(numbers: &[Number], to: impl Fn(&Number) -> Option<T>) -> Result<Vec<T>, usize> {
    numbers.iter().enumerate().map(|(at, n)| to(n).ok_or(at)).collect()
}

fn numbers(data: &TensorData) -> Option<Vec<Number>> {
    let whole = |n: i128| Number::Whole(n);
    Some(match data {
        TensorData::Bool(_) | TensorData::String(_) => return None,
        TensorData::Int8(v) => v.iter().map(|n| whole((*n).into())).collect(),
        TensorData::Int16(v) => v.iter().map(|n| whole((*n).into())).collect(),
        TensorData::Int32(v) => v.iter().map(|n| whole((*n).into())).collect(),
        TensorData::Int64(v) => v.iter().map(|n| whole((*n).into())).collect(),
        TensorData::Uint8(v) => v.iter().map(|n| whole((*n).into())).collect(),
        TensorData::Uint16(v) => v.iter().map(|n| whole((*n).into())).collect(),
        TensorData::Uint32(v) => v.iter().map(|n| whole((*n).into())).collect(),
        TensorData::Uint64(v) => v.iter().map(|n| whole((*n).into())).collect(),
        TensorData::Float16(v) => v.iter().map(|n| Number::Real(f16::from_bits(*n).to_f64())).collect(),
        TensorData::Bfloat16(v) => v.iter().map(|n| Number::Real(bf16::from_bits(*n).to_f64())).collect(),
        TensorData::Float32(v) => v.iter().map(|x| Number::Real((*x).into())).collect(),
        TensorData::Float64(v) => v.iter().map(|x| Number::Real(*x)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(data: TensorData, dtype: DType) -> Result<TensorData, (usize, String)> {
        let tensor = Tensor::new(vec![data.len()], data).unwrap();
        cast(&tensor, dtype).unwrap().map(Tensor::into_data)
    }

    #[test]
    fn what_keeps_its_value_is_taken() {
        use TensorData::{Float16, Float32, Float64, Int8, Int64, Uint8, Uint64};
        assert_eq!(to(Int64(vec![0, -3, 1 << 24]), DType::Float32), Ok(Float32(vec![0., -3., 16_777_216.])));
        assert_eq!(to(Float64(vec![2.0, 255.0]), DType::Uint8), Ok(Uint8(vec![2, 255])));
        assert_eq!(to(Int8(vec![-1]), DType::Int64), Ok(Int64(vec![-1])));
        assert_eq!(to(Uint64(vec![u64::MAX]), DType::Uint64), Ok(Uint64(vec![u64::MAX])));
        assert_eq!(to(Float32(vec![0.5]), DType::Float16), Ok(Float16(vec![0x3800])));
        assert_eq!(to(Float64(vec![0.1]), DType::Float32), Ok(Float32(vec![0.1])), "as the typed face");
        let Ok(Float32(odd)) = to(Float64(vec![f64::NAN, f64::INFINITY]), DType::Float32) else { panic!() };
        assert!(odd[0].is_nan() && odd[1].is_infinite());
    }

    #[test]
    fn what_does_not_is_told_with_its_place() {
        use TensorData::{Float32, Float64, Int64, Uint64};
        let refused = |data, dtype| to(data, dtype).unwrap_err();
        assert_eq!(refused(Int64(vec![1, (1 << 24) + 1]), DType::Float32), (1, "16777217".into()));
        assert_eq!(refused(Int64(vec![300]), DType::Uint8), (0, "300".into()));
        assert_eq!(refused(Float64(vec![2.5]), DType::Int64), (0, "2.5".into()));
        assert_eq!(refused(Float64(vec![1e300]), DType::Float32).0, 0);
        assert_eq!(refused(Float64(vec![f64::NAN]), DType::Int32).0, 0);
        assert_eq!(refused(Float32(vec![0.1]), DType::Float16).0, 0);
        assert_eq!(refused(Uint64(vec![u64::MAX]), DType::Float64).0, 0);
        assert_eq!(refused(Float64(vec![2f64.powi(64)]), DType::Uint64).0, 0);
    }

    #[test]
    fn flags_and_text_are_no_numbers() {
        let tensor = |data: TensorData| Tensor::new(vec![1], data).unwrap();
        assert!(cast(&tensor(TensorData::Bool(vec![true])), DType::Int8).is_none());
        assert!(cast(&tensor(TensorData::Int8(vec![1])), DType::Bool).is_none());
        assert!(cast(&tensor(TensorData::String(vec!["1".into()])), DType::Int8).is_none());
        assert!(cast(&tensor(TensorData::Int8(vec![1])), DType::String).is_none());
    }
}
