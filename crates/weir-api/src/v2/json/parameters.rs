//! Objects of parameters.

use weir_types::Error;

use super::lexer::Lexer;
use crate::v2::core::{Parameter, Parameters, cut};

/// Most parameters of a request, an input or an output.
const MAX_PARAMETERS: usize = 64;

/// Parameters. Values that are no scalar belong to nothing we know and are skipped.
pub(super) fn parameters(lexer: &mut Lexer<'_>) -> Result<Parameters, Error> {
    let mut found = Parameters::default();
    lexer.object("`parameters`", |lexer, key| {
        let Some(value) = parameter(lexer)? else { return Ok(()) };
        if found.get(key).is_some() {
            return Err(lexer.wrong(&format!("the parameter {:?} is there twice", cut(key))));
        }
        if found.0.len() == MAX_PARAMETERS {
            return Err(lexer.wrong(&format!("more than {MAX_PARAMETERS} parameters")));
        }
        found.0.push((key.to_owned(), value));
        Ok(())
    })?;
    Ok(found)
}

fn parameter(lexer: &mut Lexer<'_>) -> Result<Option<Parameter>, Error> {
    Ok(match lexer.peek() {
        Some(b'"') => Some(Parameter::String(lexer.string("a parameter")?.into_owned())),
        Some(b't' | b'f') => match lexer.word() {
            "true" => Some(Parameter::Bool(true)),
            "false" => Some(Parameter::Bool(false)),
            _ => return Err(lexer.wrong("a value is missing")),
        },
        Some(b'0'..=b'9' | b'-') => {
            let text = lexer.number()?;
            let int = text.parse().ok().map(Parameter::Int);
            let double = || text.parse().ok().filter(|x: &f64| x.is_finite()).map(Parameter::Double);
            let value = int.or_else(|| text.parse().ok().map(Parameter::Uint)).or_else(double);
            Some(value.ok_or_else(|| lexer.wrong("a number is beyond the range of FP64"))?)
        }
        _ => {
            lexer.skip()?;
            None
        }
    })
}
