//! Protocol buffers' text format: text to a tree, bounded.
//!
//! Source: the text format specification of protobuf.dev. A reader of our own, because the
//! ones there are need the whole of Triton's `model_config.proto` compiled in, stop at the
//! first error, and give no places. Left out: extensions and `Any` in brackets, which no
//! `config.pbtxt` has.

use std::str::Chars;

/// Deepest nesting of messages; Triton's own configuration reaches 6.
const MAX_DEPTH: usize = 16;

/// Most fields in all; a real file has fewer than a hundred.
const MAX_FIELDS: usize = 20_000;

/// Line and column, from 1.
pub(super) type Place = (usize, usize);

/// What is wrong, and where.
pub(super) type Fault = (Place, String);

/// The fields of a message, in the file's order; a repeated one stands there several times.
pub(super) type Message = Vec<Field>;

/// `name: value`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value as it is written; what it means depends on the field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Adjacent literals joined, escapes resolved; bytes that are no UTF-8 are replaced.
    Text(String),
    /// A number, an enum's value or `true`: with its minus sign.
    Word(String),
    Message(Message),
}

/// Reads a whole file.
pub(super) fn parse(text: &str) -> Result<Message, Fault> {
    let mut parser = Parser { lexer: Lexer::new(text), ahead: None, fields: 0 };
    let message = parser.message(None, 0)?;
    Ok(message)
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Text(Vec<u8>),
    Word(String),
    Mark(char),
    End,
}

impl Token {
    fn show(&self) -> String {
        match self {
            Token::Text(_) => "a string".into(),
            Token::Word(word) => format!("`{}`", word.chars().take(64).collect::<String>()),
            Token::Mark(mark) => format!("`{mark}`"),
            Token::End => "the end of the file".into(),
        }
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    ahead: Option<(Token, Place)>,
    fields: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Result<(Token, Place), Fault> {
        self.ahead.take().map_or_else(|| self.lexer.token(), Ok)
    }

    fn peek(&mut self) -> Result<&(Token, Place), Fault> {
        let token = self.next()?;
        Ok(self.ahead.insert(token))
    }

    /// Takes the next token if it is `mark`.
    fn skip(&mut self, mark: char) -> Result<bool, Fault> {
        let found = self.peek()?.0 == Token::Mark(mark);
        if found {
            self.ahead = None;
        }
        Ok(found)
    }

    /// Fields up to `close`, which is taken; up to the end of the file without one.
    fn message(&mut self, close: Option<char>, depth: usize) -> Result<Message, Fault> {
        let mut message = Vec::new();
        loop {
            match (self.next()?, close) {
                ((Token::End, _), None) => return Ok(message),
                ((Token::Mark(mark), _), Some(close)) if mark == close => return Ok(message),
                ((Token::Word(name), place), _) if is_name(&name) => {
                    self.field(&name, place, depth, &mut message)?;
                }
                ((other, place), _) => {
                    let end = close.map_or(String::new(), |c| format!(" or `{c}`"));
                    return Err((place, format!("a field name{end} is expected here, not {}", other.show())));
                }
            }
        }
    }

    fn field(&mut self, name: &str, place: Place, depth: usize, into: &mut Message) -> Result<(), Fault> {
        let colon = self.skip(':')?;
        if self.skip('[')? {
            if !self.skip(']')? {
                loop {
                    self.one(name, place, true, depth, into)?;
                    if self.skip(']')? {
                        break;
                    }
                    self.expect(',')?;
                }
            }
        } else {
            self.one(name, place, colon, depth, into)?;
        }
        let _ = self.skip(',')? || self.skip(';')?;
        Ok(())
    }

    fn one(
        &mut self,
        name: &str,
        place: Place,
        colon: bool,
        depth: usize,
        into: &mut Message,
    ) -> Result<(), Fault> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err((place, format!("more than {MAX_FIELDS} fields")));
        }
        let value = self.value(name, colon, depth)?;
        into.push(Field { name: name.to_owned(), place, value });
        Ok(())
    }

    fn value(&mut self, name: &str, colon: bool, depth: usize) -> Result<Value, Fault> {
        let (token, place) = self.next()?;
        match token {
            Token::Mark('{' | '<') if depth == MAX_DEPTH => {
                Err((place, format!("messages are nested deeper than {MAX_DEPTH}")))
            }
            Token::Mark('{') => Ok(Value::Message(self.message(Some('}'), depth + 1)?)),
            Token::Mark('<') => Ok(Value::Message(self.message(Some('>'), depth + 1)?)),
            token if !colon => {
                Err((place, format!("`:` or `{{` is expected after `{name}`, not {}", token.show())))
            }
            Token::Text(bytes) => self.text(bytes),
            Token::Word(word) => Ok(Value::Word(word)),
            Token::Mark('-') => match self.next()? {
                (Token::Word(word), _) => Ok(Value::Word(format!("-{word}"))),
                (other, place) => {
                    Err((place, format!("a number is expected after `-`, not {}", other.show())))
                }
            },
            other => Err((place, format!("a value is expected for `{name}`, not {}", other.show()))),
        }
    }

    /// A string and the literals that follow it.
    fn text(&mut self, mut bytes: Vec<u8>) -> Result<Value, Fault> {
        while let (Token::Text(_), _) = self.peek()? {
            if let (Token::Text(more), _) = self.next()? {
                bytes.extend(more);
            }
        }
        Ok(Value::Text(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn expect(&mut self, mark: char) -> Result<(), Fault> {
        let (token, place) = self.next()?;
        if token == Token::Mark(mark) {
            return Ok(());
        }
        Err((place, format!("`{mark}` is expected here, not {}", token.show())))
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !word.contains(['.', '+'])
}

struct Lexer<'a> {
    rest: Chars<'a>,
    place: Place,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.strip_prefix('\u{feff}').unwrap_or(text).chars(), place: (1, 1) }
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        self.place = if c == '\n' { (self.place.0 + 1, 1) } else { (self.place.0, self.place.1 + 1) };
        Some(c)
    }

    fn token(&mut self) -> Result<(Token, Place), Fault> {
        self.skip_space();
        let place = self.place;
        let token = match self.peek() {
            None => Token::End,
            Some(quote @ ('"' | '\'')) => Token::Text(self.string(quote)?),
            Some(c) if word_part(c) => Token::Word(self.word()),
            Some(mark @ ('{' | '}' | '<' | '>' | '[' | ']' | ':' | ',' | ';' | '-')) => {
                self.bump();
                Token::Mark(mark)
            }
            Some(c) => return Err((place, format!("{c:?} means nothing here"))),
        };
        Ok((token, place))
    }

    fn skip_space(&mut self) {
        while let Some(c) = self.peek() {
            if c == '#' {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.bump();
                }
            } else if c.is_ascii_whitespace() || c == '\u{b}' {
                self.bump();
            } else {
                return;
            }
        }
    }

    /// Names and numbers alike; `1e+5` keeps its sign.
    fn word(&mut self) -> String {
        let mut word = String::new();
        let exponent = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_digit() || c == '.')
                && !word.starts_with("0x")
                && word.ends_with(['e', 'E'])
        };
        while let Some(c) =
            self.peek().filter(|&c| word_part(c) || (matches!(c, '+' | '-') && exponent(&word)))
        {
            self.bump();
            word.push(c);
        }
        word
    }

    fn string(&mut self, quote: char) -> Result<Vec<u8>, Fault> {
        let start = self.place;
        self.bump();
        let mut bytes = Vec::new();
        loop {
            let place = self.place;
            match self.bump() {
                Some(c) if c == quote => return Ok(bytes),
                Some('\\') => {
                    self.escape(&mut bytes).ok_or_else(|| (place, "this is no escape of a string".into()))?;
                }
                Some('\n') | None => return Err((start, "this string is not closed on its line".into())),
                Some(c) => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        let c = self.bump()?;
        let plain = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '\'' | '"' | '?' => c as u8,
            'x' | 'X' => u8::try_from(self.digits(16, 2, None)?).ok()?,
            '0'..='7' => u8::try_from(self.digits(8, 3, c.to_digit(8))?).ok()?,
            'u' | 'U' => {
                let wide = if c == 'u' { 4 } else { 8 };
                let read = char::from_u32(self.digits(16, wide, None)?)?;
                bytes.extend(read.encode_utf8(&mut [0; 4]).as_bytes());
                return Some(());
            }
            _ => return None,
        };
        bytes.push(plain);
        Some(())
    }

    /// Up to `most` digits, one at least; `first` is one that was read already.
    fn digits(&mut self, radix: u32, most: usize, first: Option<u32>) -> Option<u32> {
        let mut value = first;
        for _ in usize::from(first.is_some())..most {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(radix)) else { break };
            self.bump();
            value = Some(value.unwrap_or(0).checked_mul(radix)?.checked_add(digit)?);
        }
        value
    }
}

fn word_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(message: &Message) -> String {
        let one = |f: &Field| match &f.value {
            Value::Text(text) => format!("{}={text:?}", f.name),
            Value::Word(word) => format!("{}={word}", f.name),
            Value::Message(m) => format!("{}({})", f.name, show(m)),
        };
        message.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn everything_of_the_format_is_read() {
        let text = "# a comment\nname: \"a\" 'b'\\\n".replace("\\\n", "\n")
            + "dims: [ 1, -2,3 ] empty: [] x < y: 0x1F; > m { z: 1.5e+3, w: -inf } l: [{a: b}, {}] n{}";
        let read = parse(&text).unwrap();
        assert_eq!(
            show(&read),
            "name=\"ab\" dims=1 dims=-2 dims=3 x(y=0x1F) m(z=1.5e+3 w=-inf) l(a=b) l() n()"
        );
        assert_eq!(read[0].place, (2, 1));
    }

    #[test]
    fn escapes_are_resolved() {
        let read = parse(r#"a: "\n\x41\101\u00e9\U0001F600\"\'\?" "#).unwrap();
        assert_eq!(show(&read), format!("a={:?}", "\nAAé😀\"'?"));
    }

    #[test]
    fn faults_have_a_place_and_say_what_was_expected() {
        for (text, place, words) in [
            ("a", (1, 2), "`:` or `{` is expected after `a`, not the end"),
            ("a: {\n b: 1", (2, 6), "a field name or `}` is expected"),
            ("a: \"x\n\"", (1, 4), "not closed"),
            ("a: 1 }", (1, 6), "a field name is expected here, not `}`"),
            ("a: [1 2]", (1, 7), "`,` is expected"),
            ("a: @", (1, 4), "means nothing"),
            (r#"a: "\q""#, (1, 5), "no escape"),
            ("[ext.a]: 1", (1, 1), "a field name"),
            ("a: - {", (1, 6), "a number is expected after `-`"),
        ] {
            let (at, message) = parse(text).unwrap_err();
            assert!(at == place && message.contains(words), "{text:?}: {at:?} {message}");
        }
    }

    #[test]
    fn depth_and_count_are_bounded() {
        assert!(parse(&"a{".repeat(100_000)).unwrap_err().1.contains("deeper than 16"));
        assert!(parse(&"a:1 ".repeat(20_001)).unwrap_err().1.contains("more than 20000"));
        assert!(parse(&format!("{}{}", "a{".repeat(16), "}".repeat(16))).is_ok());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[a{}<>:\\[\\],;\"'\\\\x0-9.\\-#\n ]{0,60}") {
            let _ = parse(&text);
        }
    }
}
