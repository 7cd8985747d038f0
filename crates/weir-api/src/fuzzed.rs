//! What holds for whatever comes in: the fuzz targets' checks, and their corpora's.

use serde_json::Value;

use crate::{
    listener::{Frames, Heads, TwoFramings},
    openai::read_request,
};

/// Most texts of a request for embeddings here.
const MOST_TEXTS: usize = 8;
/// Longest reason that a body may cause: it repeats bounded parts of what was sent.
const MAX_REASON_BYTES: usize = 1_500;

/// Into how many bytes at a time the streams are cut.
const CUTS: [usize; 4] = [usize::MAX, 1, 7, 64];

/// Checks that the body of a request for embeddings is refused with a reason of bounded length, or is
/// read as what serde_json makes of it.
///
/// # Errors
/// What does not hold.
pub fn embeddings(body: &[u8]) -> Result<(), String> {
    let (model, texts) = match read_request(body, MOST_TEXTS) {
        Ok(read) => read,
        Err(reason) if (1..MAX_REASON_BYTES).contains(&reason.len()) => return Ok(()),
        Err(reason) => return Err(format!("a reason of {} bytes", reason.len())),
    };
    let json: Value = serde_json::from_slice(body).map_err(|e| format!("read, and no JSON: {e}"))?;
    let input = match &json["input"] {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        one => Vec::from_iter(one.as_str()),
    };
    match () {
        () if json["model"].as_str() != Some(&*model) => Err(format!("another model: {model:?}")),
        () if texts != input => Err(format!("other texts: {texts:?}")),
        () if texts.is_empty() || texts.len() > MOST_TEXTS => Err(format!("{} texts", texts.len())),
        () => Ok(()),
    }
}

/// Checks that the watch over HTTP/1 heads says the same however its bytes come, and what a plain
/// reading of them all says.
///
/// # Errors
/// What does not hold.
pub fn heads(bytes: &[u8]) -> Result<(), String> {
    let plain = plain::first_with_two_framings(bytes);
    for cut in CUTS {
        let found = TwoFramings::default();
        let mut heads = Heads::new(found.clone());
        bytes.chunks(cut.min(bytes.len().max(1))).for_each(|part| heads.see(part));
        let told = found.number();
        if told != plain {
            return Err(format!("head {told} in parts of {cut} bytes, {plain} read plainly"));
        }
    }
    Ok(())
}

/// Checks that the watch over HTTP/2 frames says the same however its bytes come, counts the frames that
/// are there, knows a flood and takes nothing else for one.
///
/// # Errors
/// What does not hold.
pub fn frames(bytes: &[u8]) -> Result<(), String> {
    let plain = plain::Frames::read(bytes);
    let mut said = Vec::new();
    for cut in CUTS {
        let mut frames = Frames::new();
        bytes.chunks(cut.min(bytes.len().max(1))).for_each(|part| frames.see(part));
        if frames.count() != plain.count {
            return Err(format!(
                "{} frames in parts of {cut} bytes, and {} are there",
                frames.count(),
                plain.count
            ));
        }
        if frames.is_flood() && plain.free {
            return Err("what every client does is a flood".into());
        }
        if !frames.is_flood() && plain.flood {
            return Err("a flood is none".into());
        }
        said.push((frames.is_unfinished(), frames.farewell()));
    }
    said.dedup();
    if said.len() == 1 { Ok(()) } else { Err(format!("it depends on how the bytes come: {said:?}")) }
}

/// The same, read from all bytes at once by the plainest means.
mod plain {
    use crate::listener::LINE_BYTES;

    /// Which head, from 1, is the first with two framings or cannot be told; 0 is none.
    pub(super) fn first_with_two_framings(mut bytes: &[u8]) -> u64 {
        for number in 1.. {
            let framing = match head(&mut bytes) {
                None => return 0,
                Some(Err(())) => return number,
                Some(Ok(framing)) => framing,
            };
            let body = match framing {
                Framing::Length(length) => usize::try_from(length).ok().and_then(|n| bytes.get(n..)),
                Framing::Chunks => match chunks(bytes) {
                    Some(Err(())) => return number + 1,
                    Some(Ok(rest)) => Some(rest),
                    None => None,
                },
            };
            let Some(rest) = body else { return 0 };
            bytes = rest;
        }
        0
    }

    enum Framing {
        Length(u64),
        Chunks,
    }

    /// The next line, of which so much is looked at; `None` where it has no end.
    fn line<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let line = &bytes[..end.min(LINE_BYTES)];
        *bytes = &bytes[end + 1..];
        Some(line)
    }

    fn is_blank(line: &[u8]) -> bool {
        line == b"" || line == b"\r"
    }

    /// `None` where it has no end.
    fn head(bytes: &mut &[u8]) -> Option<Result<Framing, ()>> {
        while is_blank(line(bytes)?) {}
        let (mut length, mut chunked) = (None, false);
        loop {
            let field = line(bytes)?;
            if is_blank(field) {
                return Some(match (length, chunked) {
                    (Some(_), true) => Err(()),
                    (None, true) => Ok(Framing::Chunks),
                    (length, false) => Ok(Framing::Length(length.unwrap_or(0))),
                });
            }
            let text = String::from_utf8_lossy(field).to_ascii_lowercase();
            chunked |= text.starts_with("transfer-encoding:");
            if let Some(value) = text.strip_prefix("content-length:") {
                let digits = value.trim_matches(|c: char| c.is_ascii_whitespace());
                let digits = digits.bytes().all(|b| b.is_ascii_digit()).then_some(digits);
                match digits.and_then(|digits| digits.parse().ok()) {
                    Some(number) if field.len() < LINE_BYTES => length = Some(number),
                    _ => return Some(Err(())),
                }
            }
        }
    }

    /// What is behind the chunks; `None` where they have no end.
    fn chunks(mut bytes: &[u8]) -> Option<Result<&[u8], ()>> {
        loop {
            let size = line(&mut bytes)?;
            let size = size.split(|byte| *byte == b';').next().unwrap_or_default();
            let text = String::from_utf8_lossy(size);
            let digits = text.trim_matches(|c: char| c.is_ascii_whitespace());
            let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let number = u64::from_str_radix(digits, 16).ok().filter(|_| hex && size.len() < LINE_BYTES);
            match number {
                None => return Some(Err(())),
                Some(0) => break,
                Some(number) => bytes = bytes.get(usize::try_from(number).ok()?..)?,
            }
            if !is_blank(line(&mut bytes)?) {
                return Some(Err(()));
            }
        }
        while !is_blank(line(&mut bytes)?) {}
        Some(Ok(bytes))
    }

    /// Frames of HTTP/2.
    pub(super) struct Frames {
        /// That began; a CONTINUATION is none of its own.
        pub(super) count: u64,
        /// Whether there are so few that nobody may be let go.
        pub(super) free: bool,
        /// Whether there are only such as cost something, and far more than time pays for.
        pub(super) flood: bool,
    }

    impl Frames {
        pub(super) fn read(mut bytes: &[u8]) -> Self {
            let (mut count, mut all, mut earning) = (0, 0, 0);
            while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
                let [a, b, c, kind, ..] = *head;
                count += u64::from(kind != 9);
                all += 1;
                earning += u64::from(kind < 2);
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                bytes = rest.get(length..).unwrap_or_default();
            }
            // A new connection may spend 256 frames, or 16 SETTINGS; a second pays for a hundred.
            Self { count, free: all <= 16, flood: earning == 0 && all > 256 + 6_000 }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::v2_bodies::tests::Random;

    type Check = fn(&[u8]) -> Result<(), String>;

    fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
        let files = files.map(|f| (f.file_name().into_string().unwrap(), fs::read(f.path()).unwrap()));
        let files: Vec<_> = files.collect();
        assert!(files.len() >= 8, "{name} has {} files", files.len());
        files
    }

    /// Every file as a whole, and small ones cut off at every byte.
    fn holds(name: &str, check: Check) {
        for (file, bytes) in corpus(name) {
            let least = if bytes.len() > 512 { bytes.len() } else { 0 };
            for end in least..=bytes.len() {
                check(&bytes[..end]).unwrap_or_else(|e| panic!("{name}/{file} to {end}: {e}"));
            }
        }
    }

    #[test]
    fn the_corpora_hold() {
        holds("embeddings", embeddings);
        holds("http1_heads", heads);
        holds("http2_frames", frames);
    }

    #[test]
    fn damaged_files_hold() {
        let mut random = Random(20_261_125);
        let checks: [(&str, Check); 3] =
            [("embeddings", embeddings), ("http1_heads", heads), ("http2_frames", frames)];
        for (name, check) in checks {
            let small: Vec<_> = corpus(name).into_iter().filter(|(_, bytes)| bytes.len() < 8_000).collect();
            for round in 0..100 {
                for (file, bytes) in &small {
                    let bytes = random.damaged(bytes);
                    check(&bytes).unwrap_or_else(|e| panic!("{name}/{file}, round {round}: {e}: {bytes:?}"));
                }
            }
        }
    }

    #[test]
    fn names_say_what_comes_of_it() {
        for (file, body) in corpus("embeddings") {
            assert_eq!(read_request(&body, MOST_TEXTS).is_ok(), file.starts_with("ok-"), "{file}");
        }
        for (file, bytes) in corpus("http1_heads") {
            let number = plain::first_with_two_framings(&bytes);
            assert_eq!(number.to_string(), file.split('-').next().unwrap(), "{file}");
        }
    }
}
