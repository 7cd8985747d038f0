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

/// Reads the body of a request to load a model, which may hold nothing that would change how.
///
/// # Errors
/// `InvalidArgument`, also for parameters: a configuration or files of the client's.
pub(crate) fn refuse_overrides(body: &[u8]) -> Result<(), Error> {
    let mut lexer = Lexer::new(body)?;
    if lexer.peek().is_none() {
        return Ok(());
    }
    lexer.object("the request", |lexer, key| match key {
        "parameters" => lexer.object("`parameters`", |_, key| {
            Err(Error::invalid(format!(
                "the parameter {:?} is not supported: models are loaded from disk",
                cut(key)
            )))
        }),
        _ => lexer.skip(),
    })?;
    lexer.end()
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
    fn a_load_takes_nothing_that_changes_how() {
        for body in ["", "{}", "{\"parameters\":{}}", "{\"more\":[1]}"] {
            assert_eq!(refuse_overrides(body.as_bytes()), Ok(()), "{body}");
        }
        for body in ["{\"parameters\":{\"config\":\"{}\"}}", "[]", "{} x"] {
            assert!(refuse_overrides(body.as_bytes()).is_err(), "{body}");
        }
    }
}
