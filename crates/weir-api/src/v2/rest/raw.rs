//! A body that is one tensor and nothing else.

use weir_types::{Error, Tensor};

use crate::v2::core::{InferRequest, NamedTensor, TensorMetadata, datatype, read_raw};

/// Reads `body` as the one input there is. Its shape is what the metadata leaves no choice
/// about: the rows, or with one row the one other dimension that is open. A BYTES body is
/// one element.
///
/// # Errors
/// `InvalidArgument` where the model has other inputs, or the shape cannot be told.
pub(super) fn read_raw_body(inputs: &[TensorMetadata], body: &[u8]) -> Result<InferRequest, Error> {
    let [input] = inputs else {
        let text = format!("a raw body is one input, and the model has {}", inputs.len());
        return Err(Error::invalid(text));
    };
    let (shape, data) = match input.dtype.size_bytes() {
        Some(size) => {
            let shape = shape(input, body.len() / size)?;
            let data = read_raw(&input.name, input.dtype, &shape, body)?;
            (shape, data)
        }
        None => {
            let shape = shape(input, 1)?;
            let text = String::from_utf8(body.to_vec())
                .map_err(|_| Error::invalid("the body is not UTF-8, and the model takes text"))?;
            (shape, weir_types::TensorData::String(vec![text]))
        }
    };
    let tensor = Tensor::new(shape, data).map_err(|e| Error::invalid(e.to_string()))?;
    let inputs = vec![NamedTensor { name: input.name.clone(), tensor }];
    Ok(InferRequest { inputs, ..InferRequest::default() })
}

/// The shape of `count` elements.
fn shape(input: &TensorMetadata, count: usize) -> Result<Vec<usize>, Error> {
    let fixed: Vec<Option<usize>> = input.shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    let known = fixed.iter().flatten().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n > 0);
    let open: Vec<usize> = (0..fixed.len()).filter(|i| fixed[*i].is_none()).collect();
    // Which of the open dimensions takes what the others leave.
    let learned = match open[..] {
        [] => None,
        [one] => Some(one),
        [0, other] => Some(other),
        _ => {
            let shape = &input.shape;
            return Err(Error::invalid(format!("a raw body does not tell the shape of an input {shape:?}")));
        }
    };
    let known = known.filter(|n| count.is_multiple_of(*n)).ok_or_else(|| {
        let (kind, shape) = (datatype(input.dtype), &input.shape);
        Error::invalid(format!("{count} elements of {kind} do not fill an input {shape:?}"))
    })?;
    let dim = |(i, fixed): (usize, &Option<usize>)| {
        fixed.unwrap_or(if Some(i) == learned { count / known } else { 1 })
    };
    Ok(fixed.iter().enumerate().map(dim).collect())
}

#[cfg(test)]
mod tests {
    use weir_types::DType;

    use super::*;

    fn read(dtype: DType, shape: &[i64], body: &[u8]) -> Result<Vec<usize>, Error> {
        let input = TensorMetadata { name: "x".into(), dtype, shape: shape.to_vec() };
        read_raw_body(&[input], body).map(|r| r.inputs[0].tensor.shape().to_vec())
    }

    #[test]
    fn the_shape_is_what_the_metadata_leaves_no_choice_about() {
        assert_eq!(read(DType::Float32, &[-1, 4], &[0; 32]), Ok(vec![2, 4]));
        assert_eq!(read(DType::Float32, &[-1], &[0; 12]), Ok(vec![3]));
        assert_eq!(read(DType::Float32, &[-1, -1], &[0; 12]), Ok(vec![1, 3]));
        assert_eq!(read(DType::Uint8, &[-1, 2, -1], &[0; 12]), Ok(vec![1, 2, 6]));
        assert_eq!(read(DType::Uint8, &[1, 3], &[0; 3]), Ok(vec![1, 3]));
        assert_eq!(read(DType::String, &[-1], b"text"), Ok(vec![1]));
        assert_eq!(read(DType::String, &[-1, 1], b""), Ok(vec![1, 1]));
    }

    #[test]
    fn other_bodies_are_refused() {
        assert!(read(DType::Float32, &[-1, 4], &[0; 20]).is_err());
        assert!(read(DType::Float32, &[-1, 4], &[0; 17]).is_err());
        assert!(read(DType::Uint8, &[1, 3], &[0; 6]).is_err());
        assert!(read(DType::Uint8, &[-1, -1, -1], &[0; 6]).is_err());
        assert!(read(DType::String, &[-1], &[0xff]).is_err());
        assert!(read(DType::String, &[-1, 2], b"x").is_err());
        assert!(read_raw_body(&[], b"").is_err());
    }
}
