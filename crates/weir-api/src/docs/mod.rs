//! `/docs`: Swagger UI with everything it needs in the binary, so that the page works where
//! there is no internet.
//!
//! The large files are gzip from the build script on and are sent as they lie in the binary:
//! nothing of them is in memory before somebody opens the page. A client that does not take
//! gzip (curl without `--compressed`) gets them unpacked for that one answer.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// What the page may do: run its own scripts, and ask this server. Nothing inline, nothing
/// from elsewhere, no frame around it. Swagger UI draws icons from `data:` URLs.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Largest file when unpacked. Four times what the largest is today.
const MAX_UNPACKED_BYTES: usize = 8 << 20;

/// A file of the docs page as the binary holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asset {
    /// Value of `Content-Type`.
    pub(crate) content_type: &'static str,
    /// The bytes; gzip (RFC 1952) where [`gzip`](Self::gzip) says so.
    pub(crate) body: &'static [u8],
    /// Whether `body` is compressed.
    pub(crate) gzip: bool,
}

macro_rules! swagger_ui {
    ($name:literal, $content_type:literal) => {
        Asset {
            content_type: $content_type,
            body: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz")),
            gzip: true,
        }
    };
}

macro_rules! own {
    ($name:literal, $content_type:literal) => {
        Asset { content_type: $content_type, body: include_bytes!($name), gzip: false }
    };
}

/// The file at `path`: `/docs` is the page, the rest are what it refers to.
pub(crate) fn asset(path: &str) -> Option<Asset> {
    Some(match path {
        "/docs" => own!("index.html", "text/html; charset=utf-8"),
        "/docs/page.js" => own!("page.js", "text/javascript; charset=utf-8"),
        "/docs/favicon.svg" => own!("favicon.svg", "image/svg+xml"),
        "/docs/swagger-ui-bundle.js" => {
            swagger_ui!("swagger-ui-bundle.js", "text/javascript; charset=utf-8")
        }
        "/docs/swagger-ui.css" => swagger_ui!("swagger-ui.css", "text/css; charset=utf-8"),
        _ => return None,
    })
}

impl Asset {
    /// A weak entity tag (RFC 9110, 8.8.3): one for the compressed and the plain form.
    fn etag(&self) -> String {
        // A gzip file ends in the checksum and length of what it holds; the others are small.
        let bytes =
            if self.gzip { self.body.get(self.body.len().saturating_sub(8)..) } else { Some(self.body) };
        // FNV-1a. It need not withstand anybody: the bytes are those of this binary.
        let hash = bytes.unwrap_or_default().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("W/\"{hash:016x}\"")
    }

    /// The bytes as anybody can read them; `None` never happens with the files above.
    fn plain(&self) -> Option<Bytes> {
        if !self.gzip {
            return Some(Bytes::from_static(self.body));
        }
        // The build script wrote a header of ten bytes and a trailer of eight.
        let deflated = self.body.get(10..self.body.len().checked_sub(8)?)?;
        miniz_oxide::inflate::decompress_to_vec_with_limit(deflated, MAX_UNPACKED_BYTES).ok().map(Bytes::from)
    }
}

/// Answers a GET or HEAD for one of the page's files: 200, or 304 when the client has it
/// already (`If-None-Match`). `None` when there is no such file.
pub(crate) fn respond(path: &str, request: &HeaderMap) -> Option<Response<Bytes>> {
    let asset = asset(path)?;
    let etag = asset.etag();
    let known = list(request, header::IF_NONE_MATCH).any(|tag| tag == "*" || same_tag(tag, &etag));
    let gzip = asset.gzip && accepts_gzip(request);
    let body = match (known, gzip) {
        (true, _) => Bytes::new(),
        (false, true) => Bytes::from_static(asset.body),
        (false, false) => asset.plain()?,
    };
    let mut response = Response::new(body);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    if !known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    }
    if gzip && !known {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::ETAG, HeaderValue::try_from(etag).ok()?);
    for (name, value) in FIXED_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

/// Headers of every file. `no-cache` means "ask whether it changed": the answer is a 304
/// without a body, and a new binary shows at once.
const FIXED_HEADERS: [(header::HeaderName, &str); 4] = [
    (header::VARY, "accept-encoding"),
    (header::CACHE_CONTROL, "no-cache"),
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// Members of a comma-separated header, over all lines of it.
fn list(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
}

/// Weak comparison (RFC 9110, 8.8.3.2).
fn same_tag(a: &str, b: &str) -> bool {
    a.trim_start_matches("W/") == b.trim_start_matches("W/")
}

/// Whether `Accept-Encoding` allows gzip (RFC 9110, 12.5.3): named, or covered by `*`, and
/// not with a weight of zero. Without the header: no, to be safe.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let weight = |wanted: &str| {
        list(headers, header::ACCEPT_ENCODING).find_map(|member| {
            let (coding, parameters) = member.split_once(';').unwrap_or((member, ""));
            coding.trim().eq_ignore_ascii_case(wanted).then(|| quality(parameters))
        })
    };
    weight("gzip").or_else(|| weight("x-gzip")).or_else(|| weight("*")).is_some_and(|q| q > 0.0)
}

fn quality(parameters: &str) -> f32 {
    parameters.split(';').find_map(|p| p.trim().strip_prefix("q=")?.parse().ok()).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [&str; 5] =
        ["/docs", "/docs/page.js", "/docs/favicon.svg", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"];

    fn request(headers: &[(header::HeaderName, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn get(path: &str, headers: &[(header::HeaderName, &str)]) -> Response<Bytes> {
        respond(path, &request(headers)).unwrap()
    }

    #[test]
    fn the_page_refers_only_to_files_that_are_served() {
        let page = String::from_utf8(asset("/docs").unwrap().body.to_vec()).unwrap();
        let references: Vec<_> =
            page.split(['"']).filter(|part| part.starts_with("docs/") || part.contains("://")).collect();
        assert_eq!(references.len() + 1, PATHS.len());
        assert!(references.iter().all(|r| asset(&format!("/{r}")).is_some()), "{references:?}");
        assert!(PATHS.iter().all(|path| asset(path).is_some()));
        assert_eq!(asset("/docs/index.html"), None);
        assert_eq!(asset("/docs/../docs"), None);
    }

    #[test]
    fn gzip_is_sent_as_it_lies_and_unpacks_to_what_others_get() {
        for path in ["/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"] {
            let packed = get(path, &[(header::ACCEPT_ENCODING, "gzip, deflate, br")]);
            assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
            let plain = get(path, &[]);
            assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
            let trailer = &packed.body()[packed.body().len() - 8..];
            assert_eq!(trailer[4..], (plain.body().len() as u32).to_le_bytes());
            assert_eq!(trailer[..4], crc32(plain.body()).to_le_bytes());
        }
        let bundle = get("/docs/swagger-ui-bundle.js", &[]);
        assert!(String::from_utf8_lossy(bundle.body()).contains("SwaggerUIBundle"));
    }

    /// CRC-32 (ISO 3309) bit by bit, as a check that shares no code with what it checks.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg()))
        })
    }

    #[test]
    fn a_client_that_has_the_file_gets_no_body() {
        let first = get("/docs", &[]);
        assert_eq!(first.status(), StatusCode::OK);
        let etag = first.headers()[header::ETAG].to_str().unwrap();
        for tags in [etag.to_owned(), format!("\"x\", {etag}"), "*".into(), etag[2..].into()] {
            let again = get("/docs", &[(header::IF_NONE_MATCH, &tags)]);
            assert_eq!((again.status(), again.body().len()), (StatusCode::NOT_MODIFIED, 0), "{tags}");
        }
        assert_eq!(get("/docs", &[(header::IF_NONE_MATCH, "\"x\"")]).status(), StatusCode::OK);
    }

    #[test]
    fn accept_encoding_is_read_as_rfc_9110_says() {
        let accepts = |value: &str| accepts_gzip(&request(&[(header::ACCEPT_ENCODING, value)]));
        for yes in ["gzip", "br, GZIP;q=0.5", "*", "deflate, *;q=0.1", "x-gzip", "gzip ; q=1"] {
            assert!(accepts(yes), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "gzip; q=0.0, *", "identity", "*;q=0"] {
            assert!(!accepts(no), "{no}");
        }
    }

    #[test]
    fn the_policy_allows_nothing_inline_and_nothing_from_elsewhere() {
        let page = get("/docs", &[]);
        let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"));
        assert!(!policy.contains("unsafe") && !policy.contains("http"));
        let html = std::str::from_utf8(page.body()).unwrap();
        assert!(!html.contains("<style") && !html.contains("style=") && !html.contains("<script>"));
    }
}
