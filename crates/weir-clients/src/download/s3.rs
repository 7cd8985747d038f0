//! Requests to an object store.

use std::time::SystemTime;

use http::{HeaderName, HeaderValue, Request, Uri, header};
use jiff::Timestamp;
use weir_config::files;

use super::{
    S3Config,
    sign::{self, EMPTY_SHA256, S3Keys, Signed},
};

/// An object store that was checked.
#[derive(Debug, Clone)]
pub(super) struct S3 {
    config: S3Config,
    /// Keys of the environment, where no files are named.
    environment: Option<S3Keys>,
    https: bool,
    /// Host and port of the endpoint.
    authority: String,
    path_style: bool,
}

impl S3 {
    /// # Errors
    /// The key in `[s3]` and what is wrong with it.
    pub(super) fn new(
        config: &S3Config,
        environment: Option<S3Keys>,
    ) -> Result<Self, (&'static str, String)> {
        let amazon = format!("https://s3.{}.amazonaws.com", config.region);
        let endpoint = config.endpoint.as_deref().unwrap_or(&amazon);
        let shape = |text: &str| ("endpoint", format!("{text}, such as `http://minio:9000`"));
        let uri: Uri = endpoint.parse().map_err(|e| shape(&format!("is no address ({e})")))?;
        let authority =
            uri.authority().map(|a| a.as_str().to_owned()).filter(|a| !a.is_empty() && !a.contains('@'));
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(shape("must begin with `http://` or `https://`")),
        };
        let (Some(authority), "/" | "") = (authority, uri.path()) else {
            return Err(shape("must be an address of a host alone"));
        };
        if config.access_key_file.is_some() != config.secret_key_file.is_some() {
            return Err(("access_key_file", "and `secret_key_file` go together".to_owned()));
        }
        let path_style = config.path_style.unwrap_or(config.endpoint.is_some());
        Ok(Self { config: config.clone(), environment, https, authority, path_style })
    }

    /// A `GET` of an object from byte `from` on, signed for `now`.
    ///
    /// # Errors
    /// There are no keys, or a file of them cannot be read.
    pub(super) fn request(
        &self,
        bucket: &str,
        key: &str,
        from: u64,
        now: SystemTime,
    ) -> Result<Request<()>, String> {
        let (host, path) = self.address(bucket, key);
        let mut headers = vec![("host", host.clone())];
        headers.extend((from > 0).then(|| ("range", format!("bytes={from}-"))));
        let keys = if self.config.anonymous { None } else { Some(self.keys()?) };
        let time = Timestamp::try_from(now).map_err(|e| format!("the clock is wrong: {e}"))?;
        let time = time.strftime("%Y%m%dT%H%M%SZ").to_string();
        if let Some(keys) = &keys {
            headers.push(("x-amz-content-sha256", EMPTY_SHA256.to_owned()));
            headers.push(("x-amz-date", time.clone()));
            headers.extend(keys.token.clone().map(|token| ("x-amz-security-token", token)));
            let signed = Signed { path: &path, headers: &headers, time: &time, region: &self.config.region };
            let value = sign::authorization(&signed, keys);
            headers.push(("authorization", value));
        }
        let scheme = if self.https { "https" } else { "http" };
        let mut request = Request::new(());
        *request.uri_mut() =
            format!("{scheme}://{host}{path}").parse().map_err(|e| format!("s3://{bucket}/{key}: {e}"))?;
        for (name, value) in headers.into_iter().filter(|(name, _)| *name != "host") {
            let mut value =
                HeaderValue::try_from(value).map_err(|_| "a key is no text of a header".to_owned())?;
            value.set_sensitive(name != "range");
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        let host = HeaderValue::try_from(host).map_err(|e| e.to_string())?;
        request.headers_mut().insert(header::HOST, host);
        Ok(request)
    }

    /// Host and encoded path of an object. A bucket whose name has dots stays in the path where there is
    /// TLS: no certificate is for `a.b.s3.example`.
    fn address(&self, bucket: &str, key: &str) -> (String, String) {
        let key = encoded(key);
        match self.path_style || (self.https && bucket.contains('.')) {
            true => (self.authority.clone(), format!("/{bucket}/{key}")),
            false => (format!("{bucket}.{}", self.authority), format!("/{key}")),
        }
    }

    fn keys(&self) -> Result<S3Keys, String> {
        let S3Config { access_key_file, secret_key_file, session_token_file, .. } = &self.config;
        let (Some(id), Some(secret)) = (access_key_file, secret_key_file) else {
            return self.environment.clone().ok_or_else(|| {
                "there are no keys for it: name `access_key_file` and `secret_key_file` in [s3], set \
                 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set `anonymous = true`"
                    .to_owned()
            });
        };
        let token = session_token_file.as_deref().map(files::secret).transpose()?;
        Ok(S3Keys { id: files::secret(id)?, secret: files::secret(secret)?, token })
    }
}

/// RFC 3986's unreserved characters and `/` as they are, all else by its bytes in hex: the one form
/// that is signed and sent.
fn encoded(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'/');
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        match plain(byte) {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(config: S3Config) -> Result<S3, (&'static str, String)> {
        let keys = S3Keys { id: "id".into(), secret: "hidden".into(), token: Some("t".into()) };
        S3::new(&config, Some(keys))
    }

    #[test]
    fn addresses_are_of_the_style_that_is_asked_for() {
        let minio = S3Config { endpoint: Some("http://minio:9000".into()), ..S3Config::default() };
        let virtual_host = S3Config { path_style: Some(false), ..minio.clone() };
        let url = |config, bucket| {
            store(config)
                .unwrap()
                .request(bucket, "a b/ä.tar", 0, SystemTime::UNIX_EPOCH)
                .unwrap()
                .uri()
                .to_string()
        };
        assert_eq!(url(minio, "models"), "http://minio:9000/models/a%20b/%C3%A4.tar");
        assert_eq!(url(virtual_host, "models"), "http://models.minio:9000/a%20b/%C3%A4.tar");
        let amazon = S3Config { region: "eu-central-1".into(), ..S3Config::default() };
        assert!(url(amazon.clone(), "models").starts_with("https://models.s3.eu-central-1.amazonaws.com/a"));
        assert!(url(amazon, "my.models").starts_with("https://s3.eu-central-1.amazonaws.com/my.models/a"));
    }

    #[test]
    fn requests_are_signed_and_show_no_secret() {
        let config = S3Config { endpoint: Some("http://a:1".into()), ..S3Config::default() };
        let request =
            store(config.clone()).unwrap().request("models", "k", 7, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(request.headers()["range"], "bytes=7-");
        assert_eq!(request.headers()["x-amz-date"], "19700101T000000Z");
        assert!(
            request.headers()["authorization"].to_str().unwrap().contains("host;range;x-amz-content-sha256")
        );
        assert!(!format!("{request:?}").contains("hidden"));
        let anonymous = S3Config { anonymous: true, ..config.clone() };
        let request = store(anonymous).unwrap().request("models", "k", 0, SystemTime::UNIX_EPOCH).unwrap();
        assert!(!request.headers().contains_key("authorization"));
        let none =
            S3::new(&config, None).unwrap().request("models", "k", 0, SystemTime::UNIX_EPOCH).unwrap_err();
        assert!(none.contains("AWS_ACCESS_KEY_ID"), "{none}");
    }

    #[test]
    fn endpoints_that_are_none_are_told() {
        for bad in ["minio:9000", "ftp://a", "http://a/b", "http://u:p@a", ""] {
            let config = S3Config { endpoint: Some(bad.into()), ..S3Config::default() };
            assert_eq!(store(config).unwrap_err().0, "endpoint", "{bad}");
        }
        let half = S3Config { access_key_file: Some("a".into()), ..S3Config::default() };
        assert_eq!(store(half).unwrap_err().0, "access_key_file");
    }
}
