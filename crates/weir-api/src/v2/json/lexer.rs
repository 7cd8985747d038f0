//! JSON (RFC 8259) token by token, with bounds: no recursion but the caller's own.

use std::borrow::Cow;

use weir_types::Error;

/// Deepest nesting of what is skipped.
const MAX_DEPTH: usize = 64;

/// Reads values one behind the other.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    /// Reads `bytes`; a byte order mark before them is skipped.
    ///
    /// # Errors
    /// `InvalidArgument` where they are not UTF-8.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(bytes)
            .map_err(|e| Error::invalid(format!("the JSON is not UTF-8 at byte {}", e.valid_up_to())))?;
        Ok(Self { text: text.strip_prefix('\u{feff}').unwrap_or(text), at: 0 })
    }

    /// Bytes not read yet.
    pub(super) fn left(&self) -> usize {
        self.text.len() - self.at
    }

    /// An error at the place where the reader is.
    pub(super) fn wrong(&self, why: &str) -> Error {
        Error::invalid(format!("the JSON is wrong at byte {}: {why}", self.at))
    }

    /// The next byte that is no white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        let blank = rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.at += blank;
        rest.get(blank).copied()
    }

    /// Takes `byte` if it is next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// `InvalidArgument` where something does.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        self.peek().map_or(Ok(()), |_| Err(self.wrong("there is something behind the value")))
    }

    /// Reads an object; `entry` reads each key's value.
    ///
    /// # Errors
    /// `InvalidArgument`, also what `entry` says.
    pub(super) fn object(
        &mut self,
        what: &str,
        mut entry: impl FnMut(&mut Self, &str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if !self.take(b'{') {
            return Err(self.wrong(&format!("{what} is an object")));
        }
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.peek();
            let key = self.string("a key")?;
            if !self.take(b':') {
                return Err(self.wrong("a `:` is missing"));
            }
            entry(self, &key)?;
            if self.take(b'}') {
                return Ok(());
            }
            self.comma('}')?;
        }
    }

    /// Reads a list; `item` reads each of its values.
    ///
    /// # Errors
    /// `InvalidArgument`, also what `item` says.
    pub(super) fn list(
        &mut self,
        what: &str,
        mut item: impl FnMut(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if !self.take(b'[') {
            return Err(self.wrong(&format!("{what} is a list")));
        }
        if self.take(b']') {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.take(b']') {
                return Ok(());
            }
            self.comma(']')?;
        }
    }

    fn comma(&mut self, end: char) -> Result<(), Error> {
        if self.take(b',') { Ok(()) } else { Err(self.wrong(&format!("`,` or `{end}` is missing"))) }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// `InvalidArgument` where there is none, or one that is no Unicode text.
    pub(super) fn string(&mut self, what: &str) -> Result<Cow<'a, str>, Error> {
        if !self.take(b'"') {
            return Err(self.wrong(&format!("{what} is a string")));
        }
        let start = self.at;
        let mut owned: Option<String> = None;
        let mut from = start;
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain = rest.iter().take_while(|&&b| b != b'"' && b != b'\\' && b >= 0x20).count();
            self.at += plain;
            match rest.get(plain) {
                Some(b'"') => {
                    let last = &self.text[from..self.at];
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(last),
                        Some(text) => Cow::Owned(text + last),
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_default();
                    text.push_str(&self.text[from..self.at]);
                    let c = self.escape()?;
                    owned.get_or_insert_default().push(c);
                    from = self.at;
                }
                Some(_) => return Err(self.wrong("a control character in a string is not escaped")),
                None => return Err(self.wrong("a string does not end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Error> {
        let kind = self.text.as_bytes().get(self.at + 1).copied();
        self.at += 2;
        Ok(match kind {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => {
                self.at -= 2;
                return Err(self.wrong("an unknown escape"));
            }
        })
    }

    fn unicode(&mut self) -> Result<char, Error> {
        let high = self.hex()?;
        let rest = &self.text.as_bytes()[self.at..];
        let code = if (0xd800..0xdc00).contains(&high) && rest.starts_with(b"\\u") {
            self.at += 2;
            let low = self.hex()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(self.wrong("half of a surrogate pair"));
            }
            0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
        } else {
            high
        };
        char::from_u32(code).ok_or_else(|| self.wrong("half of a surrogate pair"))
    }

    fn hex(&mut self) -> Result<u32, Error> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let value = digits
            .filter(|d| d.iter().all(u8::is_ascii_hexdigit))
            .and_then(|d| u32::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        let value = value.ok_or_else(|| self.wrong("`\\u` takes four hexadecimal digits"))?;
        self.at += 4;
        Ok(value)
    }

    /// Takes `true`, `false`, `null`, `NaN` and the like: letters, and a minus before them.
    pub(super) fn word(&mut self) -> &'a str {
        self.peek();
        let rest = &self.text[self.at..];
        let sign = usize::from(rest.starts_with('-'));
        let letters = rest[sign..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let word = &rest[..sign + letters];
        self.at += word.len();
        word
    }

    /// The text of a number as JSON has it.
    ///
    /// # Errors
    /// `InvalidArgument` where there is none.
    pub(super) fn number(&mut self) -> Result<&'a str, Error> {
        self.peek();
        let bytes = &self.text.as_bytes()[self.at..];
        let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut end = usize::from(bytes.first() == Some(&b'-'));
        let whole = digits(end);
        if whole == 0 || (whole > 1 && bytes[end] == b'0') {
            return Err(self.wrong("a number is missing"));
        }
        end += whole;
        if bytes.get(end) == Some(&b'.') {
            let fraction = digits(end + 1);
            end += 1 + fraction;
            if fraction == 0 {
                return Err(self.wrong("a number ends in a point"));
            }
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits((end + 1 + sign).min(bytes.len()));
            end += 1 + sign + exponent;
            if exponent == 0 {
                return Err(self.wrong("a number's exponent is missing"));
            }
        }
        let text = &self.text[self.at..self.at + end];
        self.at += end;
        Ok(text)
    }

    /// Reads past a value of any kind.
    ///
    /// # Errors
    /// `InvalidArgument` where it is no JSON, or nested too deeply.
    pub(super) fn skip(&mut self) -> Result<(), Error> {
        self.skip_within(0)
    }

    fn skip_within(&mut self, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(self.wrong(&format!("more than {MAX_DEPTH} levels of nesting")));
        }
        match self.peek() {
            Some(b'{') => self.object("this", |lexer, _| lexer.skip_within(depth + 1)),
            Some(b'[') => self.list("this", |lexer| lexer.skip_within(depth + 1)),
            Some(b'"') => self.string("this").map(drop),
            Some(b'0'..=b'9') => self.number().map(drop),
            Some(b'-') if self.text[self.at..].starts_with("-I") => self.known_word(),
            Some(b'-') => self.number().map(drop),
            _ => self.known_word(),
        }
    }

    fn known_word(&mut self) -> Result<(), Error> {
        match self.word() {
            "true" | "false" | "null" | "NaN" | "Infinity" | "-Infinity" => Ok(()),
            _ => Err(self.wrong("a value is missing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(json: &str) -> Result<String, String> {
        let mut lexer = Lexer::new(json.as_bytes()).unwrap();
        let text = lexer.string("this").map(Cow::into_owned).map_err(|e| e.message.into_owned())?;
        lexer.end().map_err(|e| e.message.into_owned())?;
        Ok(text)
    }

    #[test]
    fn strings_are_read_as_serde_json_reads_them() {
        for json in [
            r#""""#,
            r#""a""#,
            r#""a\nb""#,
            r#""\u00e4\u0041""#,
            r#""\ud83d\ude00!""#,
            r#""\/\\\"\b\f\r\t""#,
            r#""ä\u0000""#,
        ] {
            assert_eq!(string(json).unwrap(), serde_json::from_str::<String>(json).unwrap(), "{json}");
        }
        for json in
            [r#"""#, r#""\x""#, r#""\u12""#, r#""\ud800""#, r#""\ud800\u0041""#, "\"\n\"", r#""\"#, "a"]
        {
            assert!(string(json).is_err(), "{json}");
            assert!(serde_json::from_str::<String>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn numbers_are_what_json_calls_numbers() {
        let number = |json: &str| -> bool {
            let mut lexer = Lexer::new(json.as_bytes()).unwrap();
            lexer.number().is_ok() && lexer.end().is_ok()
        };
        for json in
            ["0", "-0", "10", "1.5", "1e5", "1E+5", "-1.25e-7", "", "-", "01", "1.", ".5", "1e", "1e+", "+1"]
        {
            assert_eq!(number(json), serde_json::from_str::<f64>(json).is_ok(), "{json}");
        }
    }

    #[test]
    fn what_is_skipped_is_bounded_and_must_be_json() {
        let skip = |json: &str| -> bool {
            let mut lexer = Lexer::new(json.as_bytes()).unwrap();
            lexer.skip().is_ok() && lexer.end().is_ok()
        };
        assert!(skip(r#" {"a": [1, -2.5, "x", null, true, NaN, -Infinity, {}], "b": []} "#));
        for json in ["", "{", "[1,]", "[1 2]", "{\"a\" 1}", "{a: 1}", "nul", "-", "--1", "[", "1 2", "-Inf"] {
            assert!(!skip(json), "{json}");
        }
        assert!(skip(&("[".repeat(60) + &"]".repeat(60))));
        assert!(!skip(&"[".repeat(1_000_000)), "a million levels neither pass nor kill the process");
    }
}
