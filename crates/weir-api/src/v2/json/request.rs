//! An inference request's JSON, with or without blobs behind it.

use std::borrow::Cow;

use weir_types::{DType, Error, Tensor, TensorData, element_count};

use super::{data::read_data, lexer::Lexer, parameters::parameters};
use crate::v2::core::{
    InferRequest, MAX_ID_BYTES, MAX_RANK, NamedTensor, Parameters, RequestedOutput, cut, dtype, read_raw,
};

/// Most inputs and outputs of one request: what the model has, and some more so that the
/// error can name the one that is too many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    /// Inputs.
    pub(crate) inputs: usize,
    /// Outputs.
    pub(crate) outputs: usize,
}

/// Reads a request: `json`, then the blobs of those inputs that name a `binary_data_size`,
/// in the order of the inputs.
///
/// # Errors
/// `InvalidArgument` with the first thing that is wrong.
pub(crate) fn read(json: &[u8], blobs: &[u8], most: Most) -> Result<InferRequest, Error> {
    let mut lexer = Lexer::new(json)?;
    let mut reader = Reader { request: InferRequest::default(), blobs, most, inputs: None };
    let mut seen = Keys::default();
    lexer.object("the request", |lexer, key| {
        seen.once(key, lexer)?;
        reader.entry(lexer, key)
    })?;
    lexer.end()?;
    reader.finish()
}

/// Known keys that were there: the second one of a kind is refused, since two readers of
/// such a request could see two requests.
#[derive(Default)]
struct Keys(Vec<&'static str>);

const KNOWN: [&str; 8] = ["id", "parameters", "inputs", "outputs", "name", "shape", "datatype", "data"];

impl Keys {
    fn once(&mut self, key: &str, lexer: &Lexer<'_>) -> Result<(), Error> {
        let Some(known) = KNOWN.into_iter().find(|k| *k == key) else { return Ok(()) };
        if self.0.contains(&known) {
            return Err(lexer.wrong(&format!("the key `{known}` is there twice")));
        }
        self.0.push(known);
        Ok(())
    }
}

struct Reader<'b> {
    request: InferRequest,
    blobs: &'b [u8],
    most: Most,
    inputs: Option<()>,
}

impl Reader<'_> {
    fn entry(&mut self, lexer: &mut Lexer<'_>, key: &str) -> Result<(), Error> {
        match key {
            "id" => self.id(lexer),
            "parameters" => parameters(lexer).map(|p| self.request.parameters = p),
            "inputs" => self.inputs(lexer),
            "outputs" => self.outputs(lexer),
            _ => lexer.skip(),
        }
    }

    fn id(&mut self, lexer: &mut Lexer<'_>) -> Result<(), Error> {
        let id = lexer.string("`id`")?;
        if id.len() > MAX_ID_BYTES {
            return Err(lexer.wrong(&format!("`id` is longer than {MAX_ID_BYTES} bytes")));
        }
        self.request.id = Some(id.into_owned());
        Ok(())
    }

    fn inputs(&mut self, lexer: &mut Lexer<'_>) -> Result<(), Error> {
        self.inputs = Some(());
        lexer.list("`inputs`", |lexer| {
            if self.request.inputs.len() == self.most.inputs {
                let most = self.most.inputs;
                return Err(lexer.wrong(&format!("more than {most} inputs, which is what the model has")));
            }
            let input = Input::read(lexer)?;
            let tensor = input.tensor(&mut self.blobs)?;
            self.request.inputs.push(tensor);
            Ok(())
        })
    }

    fn outputs(&mut self, lexer: &mut Lexer<'_>) -> Result<(), Error> {
        lexer.list("`outputs`", |lexer| {
            if self.request.outputs.len() == self.most.outputs {
                let most = self.most.outputs;
                return Err(lexer.wrong(&format!("more than {most} outputs, which is what the model has")));
            }
            self.request.outputs.push(output(lexer)?);
            Ok(())
        })
    }

    fn finish(self) -> Result<InferRequest, Error> {
        if self.inputs.is_none() {
            return Err(Error::invalid("the request has no `inputs`"));
        }
        if !self.blobs.is_empty() {
            let left = self.blobs.len();
            return Err(Error::invalid(format!("{left} bytes of the body belong to no input")));
        }
        Ok(self.request)
    }
}

fn output(lexer: &mut Lexer<'_>) -> Result<RequestedOutput, Error> {
    let mut seen = Keys::default();
    let (mut name, mut found) = (None, Parameters::default());
    lexer.object("an output", |lexer, key| {
        seen.once(key, lexer)?;
        match key {
            "name" => name = Some(lexer.string("`name`")?.into_owned()),
            "parameters" => found = parameters(lexer)?,
            _ => lexer.skip()?,
        }
        Ok(())
    })?;
    let name = name.ok_or_else(|| lexer.wrong("an output has no `name`"))?;
    Ok(RequestedOutput { name, parameters: found })
}

/// One input. Its `datatype` and `shape` may come behind its data.
struct Input<'a> {
    name: Cow<'a, str>,
    dtype: DType,
    shape: Vec<usize>,
    binary: Option<u64>,
    data: Data<'a>,
}

/// What an input's `data` came to.
enum Data<'a> {
    Missing,
    /// Read at once: `datatype` and `shape` stood before it, as nearly all clients have it.
    Read(TensorData),
    /// Still where it is.
    Later(Lexer<'a>),
}

impl<'a> Input<'a> {
    fn read(lexer: &mut Lexer<'a>) -> Result<Self, Error> {
        let mut seen = Keys::default();
        let (mut name, mut datatype, mut dims, mut data) = (None, None, None, Data::Missing);
        let mut found = Parameters::default();
        lexer.object("an input", |lexer, key| {
            seen.once(key, lexer)?;
            match key {
                "name" => name = Some(lexer.string("`name`")?),
                "datatype" => datatype = Some(dtype(&lexer.string("`datatype`")?)?),
                "shape" => dims = Some(shape(lexer)?),
                "parameters" => found = parameters(lexer)?,
                "data" => data = Data::read(lexer, datatype, dims.as_deref())?,
                _ => lexer.skip()?,
            }
            Ok(())
        })?;
        let missing = |key: &str| lexer.wrong(&format!("an input has no `{key}`"));
        Ok(Self {
            name: name.ok_or_else(|| missing("name"))?,
            dtype: datatype.ok_or_else(|| missing("datatype"))?,
            shape: dims.ok_or_else(|| missing("shape"))?,
            binary: found.count("binary_data_size")?,
            data,
        })
    }

    fn tensor(self, blobs: &mut &[u8]) -> Result<NamedTensor, Error> {
        let name = cut(&self.name);
        let named = |why: String| Error::invalid(format!("input `{name}`: {why}"));
        let data: TensorData = match (self.binary, self.data) {
            (Some(_), Data::Read(_) | Data::Later(_)) => {
                return Err(named("`data` and `binary_data_size` exclude each other".into()));
            }
            (None, Data::Missing) => {
                return Err(named("there is no `data` and no `binary_data_size`".into()));
            }
            (None, Data::Read(data)) => data,
            (Some(size), Data::Missing) => {
                let size = usize::try_from(size).ok();
                let split = size.and_then(|size| blobs.split_at_checked(size));
                let (blob, rest) =
                    split.ok_or_else(|| named("`binary_data_size` is more than the body holds".into()))?;
                *blobs = rest;
                read_raw(&self.name, self.dtype, &self.shape, blob)?
            }
            (None, Data::Later(mut lexer)) => {
                let count = element_count(&self.shape).map_err(|e| named(e.to_string()))?;
                let read = read_data(&mut lexer, self.dtype, &self.shape, count);
                read.map_err(|e| named(e.message.into_owned()))?
            }
        };
        let tensor = Tensor::new(self.shape, data).map_err(|e| named(e.to_string()))?;
        Ok(NamedTensor { name: self.name.into_owned(), tensor })
    }
}

impl<'a> Data<'a> {
    fn read(lexer: &mut Lexer<'a>, dtype: Option<DType>, shape: Option<&[usize]>) -> Result<Self, Error> {
        match (dtype, shape) {
            (Some(dtype), Some(shape)) => {
                let count = element_count(shape).map_err(|e| lexer.wrong(&e.to_string()))?;
                read_data(lexer, dtype, shape, count).map(Data::Read)
            }
            _ => {
                let here = lexer.clone();
                lexer.skip()?;
                Ok(Data::Later(here))
            }
        }
    }
}

fn shape(lexer: &mut Lexer<'_>) -> Result<Vec<usize>, Error> {
    let mut dims = Vec::new();
    lexer.list("`shape`", |lexer| {
        if dims.len() == MAX_RANK {
            return Err(lexer.wrong(&format!("more than {MAX_RANK} dimensions")));
        }
        let dim = lexer.number()?.parse();
        dims.push(dim.map_err(|_| lexer.wrong("a dimension is a whole number from 0"))?);
        Ok(())
    })?;
    Ok(dims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v2::core::Parameter;

    const MOST: Most = Most { inputs: 2, outputs: 2 };

    fn refused(json: &str, blobs: &[u8]) -> String {
        read(json.as_bytes(), blobs, MOST).unwrap_err().message.into_owned()
    }

    #[test]
    fn everything_is_read_in_whatever_order() {
        let json = r#"{"outputs":[{"parameters":{"binary_data":true},"name":"y"}],
            "inputs":[{"data":[[1,2]],"datatype":"INT8","name":"a","shape":[1,2]},
                      {"name":"b","parameters":{"binary_data_size":4},"shape":[1],"datatype":"FP32"}],
            "parameters":{"timeout":5,"x":"y","odd":[1],"big":18446744073709551615,"half":0.5},"id":"7","more":{}}"#;
        let request = read(json.as_bytes(), &1.5f32.to_le_bytes(), MOST).unwrap();
        assert_eq!(request.id.as_deref(), Some("7"));
        assert_eq!(request.inputs[0].tensor.data(), &TensorData::Int8(vec![1, 2]));
        assert_eq!(request.inputs[1].tensor.data(), &TensorData::Float32(vec![1.5]));
        assert_eq!(request.outputs[0].parameters.flag("binary_data"), Ok(Some(true)));
        assert_eq!(request.parameters.get("big"), Some(&Parameter::Uint(u64::MAX)));
        assert_eq!(request.parameters.0.len(), 4);
    }

    #[test]
    fn requests_that_are_none_are_refused_with_the_reason() {
        let one = |input: &str| format!(r#"{{"inputs":[{input}]}}"#);
        let cases = [
            (String::new(), "is an object"),
            ("[]".into(), "is an object"),
            ("{}".into(), "no `inputs`"),
            (r#"{"inputs":{}}"#.into(), "`inputs` is a list"),
            (r#"{"inputs":[],"inputs":[]}"#.into(), "twice"),
            (r#"{"inputs":[]} x"#.into(), "behind the value"),
            (r#"{"inputs":[],"id":7}"#.into(), "`id` is a string"),
            (one(r#"{"name":"a","shape":[1],"data":[1]}"#), "no `datatype`"),
            (one(r#"{"name":"a","datatype":"FP8","shape":[1],"data":[1]}"#), "unknown datatype"),
            (one(r#"{"name":"a","datatype":"INT8","shape":[-1],"data":[1]}"#), "whole number from 0"),
            (one(r#"{"name":"a","datatype":"INT8","shape":[1.0],"data":[1]}"#), "whole number from 0"),
            (one(r#"{"name":"a","datatype":"INT8","shape":[2,3],"data":[1]}"#), "takes 6 elements, got 1"),
            (one(r#"{"name":"a","datatype":"INT8","shape":[1]}"#), "no `data`"),
            (
                one(r#"{"name":"a","datatype":"INT8","shape":[1,4611686018427387907],"data":[1]}"#),
                "more elements than",
            ),
            (
                one(r#"{"name":"a","datatype":"INT8","shape":[10000000000,10000000000],"data":[1]}"#),
                "more elements than",
            ),
            (
                one(
                    r#"{"name":"a","datatype":"INT8","shape":[1],"data":[1],"parameters":{"binary_data_size":1}}"#,
                ),
                "exclude",
            ),
            (
                one(r#"{"name":"a","datatype":"INT8","shape":[1],"parameters":{"binary_data_size":9}}"#),
                "more than the body",
            ),
            (
                one(r#"{"name":"a","datatype":"INT8","shape":[1],"parameters":{"binary_data_size":-1}}"#),
                "whole number",
            ),
            (format!(r#"{{"inputs":[],"x":{}}}"#, "[".repeat(100_000)), "levels of nesting"),
        ];
        for (json, reason) in cases {
            let text = refused(&json, &[]);
            assert!(text.contains(reason) && text.len() < 500, "{json}: {text}");
        }
        assert!(refused(r#"{"inputs":[]}"#, b"x").contains("belong to no input"));
        let name = "n".repeat(1 << 20);
        let long = one(&format!(r#"{{"name":"{name}","datatype":"INT8","shape":[1],"data":[300]}}"#));
        assert!(refused(&long, &[]).len() < 500, "long names are not echoed");
    }

    #[test]
    fn counts_are_bounded() {
        let input = r#"{"name":"a","datatype":"INT8","shape":[1],"data":[1]}"#;
        assert!(refused(&format!(r#"{{"inputs":[{input},{input},{input}]}}"#), &[]).contains("more than 2"));
        let deep = format!(r#"{{"inputs":[{{"shape":[{}1]}}]}}"#, "1,".repeat(40));
        assert!(refused(&deep, &[]).contains("dimensions"));
    }
}
