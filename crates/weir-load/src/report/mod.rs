//! The report as a page: one HTML file without scripts, fonts or anything else from elsewhere.

mod axis;
mod comparison;
mod plot;
mod sections;

use std::{fmt::Write, time::SystemTime};

use crate::{find::Found, machine::Machine, result::Measured};
pub use comparison::{Comparison, Role, Setting, comparison};
use plot::escape;

/// What a reader has to know beside the figures.
#[derive(Debug, Clone)]
pub struct About {
    /// The command, to be run again.
    pub command: String,
    /// Weir's version.
    pub version: String,
    /// Where the load was generated.
    pub machine: Machine,
    /// Who was asked for what.
    pub target: String,
    /// What was sent and checked.
    pub notes: Vec<String>,
    /// When.
    pub written: SystemTime,
}

/// The page. With `found`, `measured` is its best step, and the steps are shown too.
pub fn page(about: &About, measured: &Measured, found: Option<&Found>) -> String {
    let mut out = begin("weir load", about);
    head(measured, &mut out);
    out.push_str(&sections::tiles(measured));
    if let Some(found) = found {
        out.push_str(&sections::search(found));
    }
    out.push_str(&sections::latency_over_time(measured));
    out.push_str(&sections::throughput_over_time(measured));
    out.push_str(&sections::curve(measured));
    out.push_str(&sections::tables(measured));
    foot(about, &mut out);
    out.push_str("</body></html>\n");
    out
}

/// Up to the command that is to be run again.
fn begin(command: &str, about: &About) -> String {
    let (target, again) = (escape(&about.target), escape(&about.command));
    let mut out = String::from("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>");
    let _ = writeln!(
        out,
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><title>{command}: {target}</title>\
         <style>{}</style></head><body><h1>{command}</h1><p class=\"soft\">{target}</p><pre>{again}</pre>",
        include_str!("style.css")
    );
    out
}

fn head(measured: &Measured, out: &mut String) {
    let _ = write!(out, "<p>{}.</p>", sections::loop_words(measured));
    if let Some(why) = &measured.generator.bottleneck {
        let _ = write!(
            out,
            "<p class=\"warning\">The generator was the bottleneck, so these figures tell of it rather than of the \
             server: {}.</p>",
            escape(why)
        );
    }
}

fn foot(about: &About, out: &mut String) {
    let machine = &about.machine;
    let seconds = about.written.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let _ = write!(
        out,
        "<p class=\"soft\">Generated on {} ({} cores, {}) by weir {}, {}. {}.</p>",
        escape(&machine.processor),
        machine.cores,
        escape(&machine.system),
        escape(&about.version),
        date(seconds),
        escape(&about.notes.join("; "))
    );
}

/// `2026-11-25 13:00 UTC`, by the days-to-civil algorithm (Hinnant, "chrono-compatible low-level
/// date algorithms").
fn date(seconds: u64) -> String {
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (seconds % 86_400 / 3_600, seconds % 3_600 / 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        find::{Step, Verdict},
        result::fake,
    };

    fn about() -> About {
        About {
            command: "weir load 'http://h:1' m --fail-if 'p99>50ms' <&>\"".into(),
            version: "0.1.0".into(),
            machine: Machine { processor: "a & b".into(), cores: 2, system: "linux".into() },
            target: "h:1 /x?a=1&b=<2>".into(),
            notes: vec!["one".into(), "two \u{1}".into()],
            written: SystemTime::UNIX_EPOCH,
        }
    }

    /// Every element that opens is closed, in order; attributes are quoted; no stray `<` or `&`.
    fn assert_well_formed(page: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
        while let Some(at) = rest.find('<') {
            assert_no_stray(&rest[..at]);
            let end = at + rest[at..].find('>').unwrap();
            let tag = &rest[at + 1..end];
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split([' ', '\n']).next().unwrap()),
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty(), "{open:?}");
    }

    fn assert_no_stray(text: &str) {
        for (at, _) in text.match_indices('&') {
            let entity = text[at..].split(';').next().unwrap();
            assert!(["&amp", "&lt", "&gt", "&quot", "&#39", "&nbsp"].contains(&entity), "{entity}");
        }
    }

    #[test]
    fn the_page_is_well_formed_whatever_was_measured() {
        let mut lagging = fake(10, 3, 0, 1);
        lagging.generator.bottleneck = Some("late & <slow>".into());
        lagging.failures.insert("status 500: <html>&".into(), 3);
        for measured in [fake(0, 1, 0, 1), fake(1, 1, 0, 1), fake(900, 10, 100, 1), lagging] {
            assert_well_formed(&page(&about(), &measured, None));
        }
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = page(&about(), &fake(900, 10, 100, 1), None);
        for word in ["src=", "href=", "url(", "@import", "<script", "NaN", "inf"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn a_search_shows_its_steps() {
        let step = |rate, verdict| Step { rate, verdict, measured: fake(900, 10, 100, 1) };
        let steps =
            vec![step(100.0, Verdict::Met), step(200.0, Verdict::Missed), step(150.0, Verdict::Unknown)];
        let found = Found { rate: Some(100.0), bounded: true, steps };
        let page = page(&about(), &found.steps[0].measured, Some(&found));
        assert_well_formed(&page);
        assert!(page.contains("missed") && page.contains("Rates that were tried"));
    }

    #[test]
    fn a_comparison_is_well_formed_and_shows_every_setting() {
        let step = |rate, verdict| Step { rate, verdict, measured: fake(900, 10, 100, 1) };
        let setting = |name: &str, role, steps| Setting { name: name.into(), role, steps };
        let settings = vec![
            setting(
                "in <force>",
                Role::Reference,
                vec![step(100.0, Verdict::Met), step(200.0, Verdict::Missed)],
            ),
            setting("max_rows = 8", Role::Best, vec![step(200.0, Verdict::Met)]),
            setting("max_rows = 1", Role::Other, vec![step(70.0, Verdict::Missed)]),
            setting("never tried", Role::Other, Vec::new()),
        ];
        let level = Some((50.0, "p99=50ms".to_owned()));
        let words = vec!["twice & more".to_owned()];
        let page = comparison(&about(), &Comparison { words, level, settings });
        assert_well_formed(&page);
        for words in
            ["in &lt;force&gt;", "<td>200</td>", "below 70", "never tried", "p99=50ms", "twice &amp; more"]
        {
            assert!(page.contains(words), "{words}");
        }
        let empty = Comparison { words: Vec::new(), level: None, settings: Vec::new() };
        assert_well_formed(&comparison(&about(), &empty));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_795_611_600), "2026-11-25 13:00 UTC");
    }
}
