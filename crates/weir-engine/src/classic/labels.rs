//! Tables: class names, `LabelEncoder`, `CategoryMapper`, `OneHotEncoder`, `ZipMap`.

use std::{collections::HashMap, hash::Hash};

use weir_artifact::onnx::tensor as read_tensor;
use weir_types::{DType, Tensor, TensorData};

use super::op::{Op, Outcome, Source, count, input_error, matrix, needed, no_kernel, one, take};

/// The class names of a classifier.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Labels {
    Ints(Vec<i64>),
    Strings(Vec<String>),
}

impl Labels {
    /// The node's labels, out of the attributes of these names.
    pub(super) fn read(source: &Source<'_>, ints: &str, strings: &str) -> Outcome<Self> {
        let (strings, ints) = (source.node.strings(strings), source.node.ints(ints));
        match (strings.is_empty(), ints.is_empty()) {
            (false, _) => Ok(Labels::Strings(strings)),
            (true, false) => Ok(Labels::Ints(ints.to_vec())),
            (true, true) => Err(source.broken("it has no class labels")),
        }
    }

    /// Number of classes.
    pub(super) fn len(&self) -> usize {
        match self {
            Labels::Ints(v) => v.len(),
            Labels::Strings(v) => v.len(),
        }
    }

    /// The labels of the winning classes.
    pub(super) fn pick(&self, winners: &[usize]) -> TensorData {
        match self {
            Labels::Ints(v) => TensorData::Int64(winners.iter().map(|&w| v[w]).collect()),
            Labels::Strings(v) => TensorData::String(winners.iter().map(|&w| v[w].clone()).collect()),
        }
    }

    /// The same for classes 0 and 1 where the model may name but one label: onnxruntime
    /// then answers "0" and "1".
    pub(super) fn pick_binary(&self, winners: &[usize]) -> TensorData {
        match self {
            _ if self.len() >= 2 => self.pick(winners),
            Labels::Ints(_) => TensorData::Int64(winners.iter().map(|&w| w as i64).collect()),
            Labels::Strings(_) => TensorData::String(winners.iter().map(ToString::to_string).collect()),
        }
    }
}

/// Where a key stands in a table.
enum Index {
    Ints(HashMap<i64, usize>),
    Strings(HashMap<String, usize>),
    /// By the bits of the number, NaN and -0 made one with their likes.
    Singles(HashMap<u32, usize>),
    Doubles(HashMap<u64, usize>),
}

/// The same bits for what is the same key.
fn single_bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { (x + 0.0).to_bits() }
}

fn double_bits(x: f64) -> u64 {
    if x.is_nan() { f64::NAN.to_bits() } else { (x + 0.0).to_bits() }
}

/// Position of each key; of equal keys the first stays.
fn positions<K: Hash + Eq>(keys: impl Iterator<Item = K>) -> HashMap<K, usize> {
    let mut map = HashMap::new();
    for (at, key) in keys.enumerate() {
        map.entry(key).or_insert(at);
    }
    map
}

impl Index {
    /// The table of `keys`; NaN is a key only if `nan` says so.
    fn new(keys: TensorData, nan: bool) -> Option<Self> {
        let mut index = Self::of(keys)?;
        match &mut index {
            Index::Singles(map) if !nan => drop(map.remove(&single_bits(f32::NAN))),
            Index::Doubles(map) if !nan => drop(map.remove(&double_bits(f64::NAN))),
            _ => {}
        }
        Some(index)
    }

    fn of(keys: TensorData) -> Option<Self> {
        Some(match keys {
            TensorData::Int64(v) => Index::Ints(positions(v.into_iter())),
            TensorData::String(v) => Index::Strings(positions(v.into_iter())),
            TensorData::Float32(v) => Index::Singles(positions(v.into_iter().map(single_bits))),
            TensorData::Float64(v) => Index::Doubles(positions(v.into_iter().map(double_bits))),
            _ => return None,
        })
    }

    /// The position of each element of `x`, `otherwise` where it is no key.
    fn look_up(&self, x: &Tensor, otherwise: usize) -> Outcome<Vec<usize>> {
        let or = |found: Option<&usize>| found.copied().unwrap_or(otherwise);
        Ok(match (self, x.data()) {
            (Index::Ints(map), TensorData::Int64(v)) => v.iter().map(|k| or(map.get(k))).collect(),
            (Index::Ints(map), TensorData::Int32(v)) => v.iter().map(|&k| or(map.get(&k.into()))).collect(),
            (Index::Strings(map), TensorData::String(v)) => v.iter().map(|k| or(map.get(k))).collect(),
            (Index::Singles(map), TensorData::Float32(v)) => {
                v.iter().map(|&k| or(map.get(&single_bits(k)))).collect()
            }
            (Index::Doubles(map), TensorData::Float64(v)) => {
                v.iter().map(|&k| or(map.get(&double_bits(k)))).collect()
            }
            _ => return Err(no_kernel(x)),
        })
    }
}

/// A table from keys to values; the last value is the default.
fn table(source: &Source<'_>, keys: TensorData, mut values: TensorData, default: &TensorData) -> Outcome<Op> {
    if keys.len() != values.len() || default.len() != 1 {
        return Err(source.broken(format!("{} keys, {} values", keys.len(), values.len())));
    }
    let otherwise = values.len();
    if !values.append(default) {
        return Err(source.broken("the default is of another type than the values"));
    }
    // Before `ai.onnx.ml` 4 a NaN equals nothing, not even a NaN.
    let index = Index::new(keys, source.opset >= 4);
    let index = index.ok_or_else(|| source.unsupported("keys of this type"))?;
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        one(x.shape().to_vec(), take(&values, &index.look_up(x, otherwise)?))
    }))
}

/// `LabelEncoder`: a list of classes before `ai.onnx.ml` 2, a table since.
pub(super) fn label_encoder(source: &Source<'_>) -> Outcome<Op> {
    let classes = source.node.strings("classes_strings");
    if !classes.is_empty() {
        return classes_encoder(source, classes);
    }
    let keys = attribute(source, "keys")?.ok_or_else(|| source.broken("it has no keys"))?;
    let values = attribute(source, "values")?.ok_or_else(|| source.broken("it has no values"))?;
    let default = default_value(source, values.dtype())?;
    table(source, keys, values, &default)
}

/// The list called `<role>_strings`, `_int64s`, `_floats` or the tensor `<role>_tensor`.
fn attribute(source: &Source<'_>, role: &str) -> Outcome<Option<TensorData>> {
    let node = source.node;
    if let Some(proto) = node.tensor(&format!("{role}_tensor")) {
        return read_tensor(proto).map(|t| Some(t.into_data())).map_err(|why| source.broken(why));
    }
    let has = |kind: &str| node.attribute(&format!("{role}_{kind}")).is_some();
    Ok(if has("strings") {
        Some(TensorData::String(node.strings(&format!("{role}_strings"))))
    } else if has("int64s") {
        Some(TensorData::Int64(node.ints(&format!("{role}_int64s")).to_vec()))
    } else if has("floats") {
        Some(TensorData::Float32(node.floats(&format!("{role}_floats")).to_vec()))
    } else {
        None
    })
}

fn default_value(source: &Source<'_>, dtype: DType) -> Outcome<TensorData> {
    let node = source.node;
    if let Some(proto) = node.tensor("default_tensor") {
        return read_tensor(proto).map(Tensor::into_data).map_err(|why| source.broken(why));
    }
    let float = node.float("default_float").unwrap_or(-0.0);
    Ok(match dtype {
        DType::String => {
            TensorData::String(vec![node.string("default_string").unwrap_or_else(|| "_Unused".to_owned())])
        }
        DType::Int64 => TensorData::Int64(vec![node.int("default_int64").unwrap_or(-1)]),
        DType::Float32 => TensorData::Float32(vec![float]),
        DType::Float64 => TensorData::Float64(vec![float.into()]),
        DType::Int16 => TensorData::Int16(vec![-1]),
        _ => return Err(source.unsupported(format!("values of {dtype}"))),
    })
}

/// Strings to their positions and back, whichever comes.
fn classes_encoder(source: &Source<'_>, classes: Vec<String>) -> Outcome<Op> {
    let default_int = TensorData::Int64(vec![source.node.int("default_int64").unwrap_or(-1)]);
    let default_text = source.node.string("default_string").unwrap_or_else(|| "_Unused".to_owned());
    let numbers = TensorData::Int64((0..classes.len() as i64).collect());
    let names = TensorData::String(classes);
    let to_int = table(source, names.clone(), numbers.clone(), &default_int)?;
    let to_text = table(source, numbers, names, &TensorData::String(vec![default_text]))?;
    Ok(Box::new(move |inputs, cancel| match needed(inputs, 0)?.data() {
        TensorData::String(_) => to_int(inputs, cancel),
        _ => to_text(inputs, cancel),
    }))
}

/// `CategoryMapper`: strings to integers and back, whichever comes.
pub(super) fn category_mapper(source: &Source<'_>) -> Outcome<Op> {
    let names = TensorData::String(source.node.strings("cats_strings"));
    let numbers = TensorData::Int64(source.node.ints("cats_int64s").to_vec());
    let default_int = TensorData::Int64(vec![source.node.int("default_int64").unwrap_or(-1)]);
    let default_text = source.node.string("default_string").unwrap_or_else(|| "_Unused".to_owned());
    let to_int = table(source, names.clone(), numbers.clone(), &default_int)?;
    let to_text = table(source, numbers, names, &TensorData::String(vec![default_text]))?;
    Ok(Box::new(move |inputs, cancel| match needed(inputs, 0)?.data() {
        TensorData::String(_) => to_int(inputs, cancel),
        _ => to_text(inputs, cancel),
    }))
}

/// `OneHotEncoder`: the shape gains a dimension of one column a category.
pub(super) fn one_hot_encoder(source: &Source<'_>) -> Outcome<Op> {
    let (ints, strings) = (source.node.ints("cats_int64s"), source.node.strings("cats_strings"));
    let keys = if ints.is_empty() { TensorData::String(strings) } else { TensorData::Int64(ints.to_vec()) };
    let width = keys.len();
    if width == 0 {
        return Err(source.broken("it has no categories"));
    }
    let index = Index::of(keys).ok_or_else(|| source.broken("categories of this type"))?;
    let zeros = source.node.int("zeros").unwrap_or(1) != 0;
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let whole = whole_numbers(x)?;
        let found = index.look_up(&whole, width)?;
        let mut shape = x.shape().to_vec();
        shape.push(width);
        let mut out = vec![0f32; count(&shape)?];
        for (row, &at) in found.iter().enumerate() {
            if at < width {
                out[row * width + at] = 1.0;
            } else if !zeros {
                return Err(input_error("a value is none of the categories that the model knows"));
            }
        }
        one(shape, TensorData::Float32(out))
    }))
}

/// Numbers cut to integers, as the operator prescribes; others as they are.
fn whole_numbers(x: &Tensor) -> Outcome<std::borrow::Cow<'_, Tensor>> {
    let data = match x.data() {
        TensorData::Float32(v) => v.iter().map(|&f| f as i64).collect(),
        TensorData::Float64(v) => v.iter().map(|&f| f as i64).collect(),
        _ => return Ok(std::borrow::Cow::Borrowed(x)),
    };
    super::op::tensor(x.shape().to_vec(), TensorData::Int64(data)).map(std::borrow::Cow::Owned)
}

/// `ZipMap`: a list of maps in ONNX; here the matrix that it is made of.
pub(super) fn zip_map(source: &Source<'_>) -> Outcome<Op> {
    let labels = Labels::read(source, "classlabels_int64s", "classlabels_strings")?;
    Ok(Box::new(move |inputs, _| {
        let x = needed(inputs, 0)?;
        let (rows, columns) = matrix(x)?;
        if columns != labels.len() {
            return Err(input_error(format!("{columns} scores for {} classes", labels.len())));
        }
        one(vec![rows, columns], x.data().clone())
    }))
}
