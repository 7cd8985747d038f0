//! In which of two formats the metrics are written.

use http::{HeaderMap, HeaderValue, header};

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0: types that the other has not, units, exemplars.
    OpenMetrics,
    /// Prometheus's text format 0.0.4, which everything reads.
    Text,
}

const OPEN_METRICS: &str = "application/openmetrics-text";

impl Format {
    /// OpenMetrics for who asks for it and would not rather have text (RFC 9110 section 12.5.1);
    /// text for everybody else, as the clients of Prometheus's own libraries get it.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let (mut open_metrics, mut text) = (0.0, 0.0);
        let lists = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
        for entry in lists.flat_map(|list| list.split(',')) {
            let (range, weight) = weighed(entry);
            let of_range = match range.to_ascii_lowercase().as_str() {
                OPEN_METRICS => &mut open_metrics,
                "text/plain" | "text/*" => &mut text,
                _ => continue,
            };
            *of_range = f32::max(*of_range, weight);
        }
        if open_metrics > 0.0 && open_metrics >= text { Format::OpenMetrics } else { Format::Text }
    }

    /// What `Content-Type` says.
    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        })
    }
}

/// The media range of an entry of `Accept`, and its weight: 0 where we have no such version.
fn weighed(entry: &str) -> (&str, f32) {
    let mut parts = entry.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let mut weight = 1.0;
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => weight = value.trim().parse().unwrap_or(0.0),
            "version" if !matches!(value.trim(), "1.0.0" | "0.0.4") => return (range, 0.0),
            _ => {}
        }
    }
    (range, weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &[&'static str]) -> Format {
        let headers = accept.iter().map(|value| (header::ACCEPT, HeaderValue::from_static(value)));
        Format::wanted(&headers.collect())
    }

    #[test]
    fn open_metrics_is_for_who_asks_for_it() {
        // As Prometheus 2.42 and 3.5 ask.
        let two = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let three = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                     application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;\
                     escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for accept in [&[two][..], &[three], &["application/OpenMetrics-Text"]] {
            assert_eq!(wanted(accept), Format::OpenMetrics, "{accept:?}");
        }
        let text = [
            &[][..],
            &["*/*"],
            &["text/plain"],
            &["application/openmetrics-text;q=0"],
            &["application/openmetrics-text;version=2.0.0"],
            &["application/openmetrics-text;version=0.0.1"],
            &["text/plain", "application/openmetrics-text;q=0.3"],
            &["application/openmetrics-text; q=much"],
        ];
        for accept in text {
            assert_eq!(wanted(accept), Format::Text, "{accept:?}");
        }
    }
}
