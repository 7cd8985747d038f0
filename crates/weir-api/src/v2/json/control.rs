//! The small bodies of requests about the repository.

use weir_types::Error;

use super::lexer::Lexer;
use crate::v2::core::cut;

/// Reads the body of a request for the repository's index: `{"ready": bool}` or nothing.
///
/// # Errors
/// `InvalidArgument` where it is something else.
pub(crate) fn read_index(body: &[u8]) -> Result<bool, Error> {
    let mut lexer = Lexer::new(body)?;
    if lexer.peek().is_none() {
        return Ok(false);
    }
    let mut ready = false;
    lexer.object("the request", |lexer, key| {
        if key != "ready" {
            return lexer.skip();
        }
        ready = match lexer.word() {
            "true" => true,
            "false" => false,
            _ => return Err(lexer.wrong("`ready` is true or false")),
        };
        Ok(())
    })?;
    lexer.end()?;
    Ok(ready)
}

/// Reads the names of the parameters that a request to load or unload a model has.
///
/// # Errors
/// `InvalidArgument` where the body is something else.
pub(crate) fn read_order(body: &[u8]) -> Result<Vec<String>, Error> {
    let mut lexer = Lexer::new(body)?;
    let mut names = Vec::new();
    if lexer.peek().is_none() {
        return Ok(names);
    }
    lexer.object("the request", |lexer, key| match key {
        "parameters" => lexer.object("`parameters`", |lexer, key| {
            names.push(cut(key));
            lexer.skip()
        }),
        _ => lexer.skip(),
    })?;
    lexer.end()?;
    Ok(names)
}

/// Whether `bytes` are one value in the reader's own grammar.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    Lexer::new(bytes).is_ok_and(|mut lexer| lexer.skip().is_ok() && lexer.end().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_takes_a_flag_or_nothing() {
        assert_eq!(read_index(b""), Ok(false));
        assert_eq!(read_index(b"{\"ready\":true}"), Ok(true));
        assert!(read_index(b"{\"ready\":1}").is_err() && read_index(b"[]").is_err());
    }

    #[test]
    fn an_order_has_parameters_or_none() {
        for body in ["", "{}", "{\"parameters\":{}}", "{\"more\":[1]}"] {
            assert_eq!(read_order(body.as_bytes()), Ok(Vec::new()), "{body}");
        }
        let body = b"{\"parameters\":{\"config\":\"{}\",\"x\":{\"y\":[]}}}";
        assert_eq!(read_order(body), Ok(vec!["config".to_owned(), "x".to_owned()]));
        for body in ["[]", "{} x", "{\"parameters\":1}"] {
            assert!(read_order(body.as_bytes()).is_err(), "{body}");
        }
    }
}
