use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Exposition {
    parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn both_formats_read_the_same() {
    let open_metrics = "# HELP a Help \\\\ with\\nescapes.\n# TYPE a counter\na_total{x=\"1\\\"\\\\\\n,}\"} 2\n\
                        # TYPE h_seconds histogram\n# UNIT h_seconds seconds\nh_seconds_sum 1.5\nh_seconds_count 1\n\
                        h_seconds_bucket{le=\"+Inf\"} 1 # {trace_id=\"ab\"} 1.5 12.5\n\
                        # TYPE m info\nm_info{v=\"1\"} 1\n# EOF\nwhatever comes here\n";
    let text = "# HELP a_total Help \\\\ with\\nescapes.\n# TYPE a_total counter\na_total{x=\"1\\\"\\\\\\n,}\",} 2\n\
                # TYPE h_seconds histogram\nh_seconds_sum 1.5\nh_seconds_count 1\n\
                h_seconds_bucket{ le = \"+Inf\" } 1 123456\n# TYPE m_info gauge\nm_info{v=\"1\"} 1\n";
    let (one, other) = (read(open_metrics), read(text));
    let counter = one.family("a").unwrap();
    assert_eq!(counter.help, "Help \\ with\nescapes.");
    assert_eq!(counter.samples[0].label("x"), "1\"\\\n,}");
    assert_eq!(Some(counter), other.family("a"));
    let histogram = one.family("h_seconds").unwrap();
    assert_eq!((histogram.kind, &*histogram.unit, histogram.samples.len()), (Kind::Histogram, "seconds", 3));
    let exemplar = histogram.samples[2].exemplar.clone().unwrap();
    assert_eq!((exemplar.value, exemplar.at), (1.5, Some(12.5)));
    assert_eq!(exemplar.labels, [("trace_id".to_owned(), "ab".to_owned())]);
    assert_eq!(other.family("h_seconds").unwrap().samples.len(), 3);
    assert_eq!(one.family("m").unwrap().kind, Kind::Info);
    assert_eq!(other.family("m_info").unwrap().kind, Kind::Gauge, "the older format has no infos");
}

#[test]
fn what_is_no_exposition_is_told_with_its_line() {
    for (text, why) in [
        ("<html>\n", "line 1: "),
        ("a 1\nb\n", "line 2: a name without a value"),
        ("a x\n", "\"x\" is no number"),
        ("a{b=\"1\" 1\n", "labels without an end"),
        ("a{b=1} 1\n", "in quotes"),
        ("a{b=\"1} 1\n", "without an end"),
        ("a{9=\"1\"} 1\n", "no name of a label"),
        ("9 1\n", "no name of a metric"),
        ("a 1 2 3\n", "follows the value"),
        ("# TYPE a nonsense\n", "no type of metric"),
    ] {
        let error = parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(why), "{text:?}: {error}");
    }
    assert!(parse(b"a\xff 1\n").unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn a_body_has_bounds() {
    let long = vec![b'#'; MAX_BYTES + 1];
    assert!(parse(&long).unwrap_err().to_string().contains("bytes of metrics"));
    let many = "a 1\n".repeat(MAX_SAMPLES + 1);
    assert!(parse(many.as_bytes()).unwrap_err().to_string().contains("more samples"));
    let families: String = (0..=MAX_FAMILIES).map(|i| format!("# HELP f{i} x\n")).collect();
    assert!(parse(families.as_bytes()).unwrap_err().to_string().contains("more families"));
    let labels = format!("a{{{}}} 1\n", "b=\"\",".repeat(65));
    assert!(parse(labels.as_bytes()).unwrap_err().to_string().contains("labels"));
    let name = "x".repeat(1 << 20);
    let error = parse(format!("{name}! 1\n").as_bytes()).unwrap_err().to_string();
    assert!(error.len() < 200, "{} bytes", error.len());
}

/// Writes as OpenMetrics asks to; not as the parser reads.
fn written(exposition: &Exposition) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
    let labels = |labels: &[(String, String)]| {
        let pairs: Vec<_> = labels.iter().map(|(n, v)| format!("{n}=\"{}\"", escaped(v))).collect();
        format!("{{{}}}", pairs.join(","))
    };
    let mut text = String::new();
    for family in &exposition.families {
        text += &format!("# HELP {} {}\n# TYPE {0} counter\n", family.name, escaped(&family.help));
        for sample in &family.samples {
            text += &format!("{}{} {:?}", sample.name, labels(&sample.labels), sample.value);
            if let Some(exemplar) = &sample.exemplar {
                text += &format!(" # {} {:?}", labels(&exemplar.labels), exemplar.value);
                text += &exemplar.at.map(|at| format!(" {at:?}")).unwrap_or_default();
            }
            text += "\n";
        }
    }
    text + "# EOF\n"
}

fn any_labels() -> impl Strategy<Value = Vec<(String, String)>> {
    let value = prop_oneof![any::<String>(), Just("\\n\"},{#\\".to_owned())];
    prop::collection::vec(((0..9u8).prop_map(|n| format!("l{n}")), value), 0..4)
}

fn any_exemplar() -> impl Strategy<Value = Option<Exemplar>> {
    let number = || prop::num::f64::NORMAL | prop::num::f64::ZERO;
    let exemplar = (any_labels(), number(), prop::option::of(number()));
    prop::option::of(exemplar.prop_map(|(labels, value, at)| Exemplar { labels, value, at }))
}

fn any_exposition() -> impl Strategy<Value = Exposition> {
    let value = prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::INFINITE;
    let samples = prop::collection::vec((any_labels(), value, any_exemplar()), 1..5);
    let family = (any::<String>(), samples);
    prop::collection::vec(family, 0..5).prop_map(|families| {
        let family = |(number, (help, samples)): (usize, (String, Vec<_>))| {
            let name = format!("family_{number}");
            let sample =
                |(labels, value, exemplar)| Sample { name: format!("{name}_total"), labels, value, exemplar };
            let samples = samples.into_iter().map(sample).collect();
            Family { kind: Kind::Counter, help, unit: String::new(), samples, name }
        };
        Exposition { families: families.into_iter().enumerate().map(family).collect() }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(exposition in any_exposition()) {
        let text = written(&exposition);
        prop_assert_eq!(parse(text.as_bytes()), Ok(exposition), "{}", text);
    }

    #[test]
    fn no_body_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_line_is_too_strange(line in "(# )?(HELP|TYPE)?[a-z_]{0,3}[{}\"\\\\,= #0-9a-z]{0,40}") {
        let _ = parse(line.as_bytes());
    }
}
