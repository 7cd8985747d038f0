//! Several settings of one server side by side.

use std::fmt::Write;

use super::{
    About,
    axis::{Axis, number},
    begin, foot,
    plot::{Line, Plot, escape},
    sections::{ms, range},
};
use crate::find::{Step, Verdict};

/// What was compared.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// What came of it, a paragraph each.
    pub words: Vec<String>,
    /// What was to be kept: milliseconds and how it is written, for the line in the plot.
    pub level: Option<(f64, String)>,
    /// Every setting, the one in force first.
    pub settings: Vec<Setting>,
}

/// One setting and what was measured of it.
#[derive(Debug, Clone)]
pub struct Setting {
    /// What it is.
    pub name: String,
    /// What stands out.
    pub role: Role,
    /// Every rate that was tried.
    pub steps: Vec<Step>,
}

/// How a setting is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What is in force: all others are compared with it.
    Reference,
    /// The best one.
    Best,
    /// Any other.
    Other,
}

impl Setting {
    /// The step with the highest rate that was met.
    fn best(&self) -> Option<&Step> {
        let met = self.steps.iter().filter(|step| step.verdict == Verdict::Met);
        met.max_by(|a, b| a.rate.total_cmp(&b.rate))
    }

    /// p99 by rate.
    fn points(&self) -> Vec<(f64, f64)> {
        let steps = self.steps.iter().filter(|step| step.measured.latency.count > 0);
        steps.map(|s| (s.rate, s.measured.latency.p99_ms)).collect()
    }
}

/// The page of a comparison.
pub fn comparison(about: &About, compared: &Comparison) -> String {
    let mut out = begin("weir tune", about);
    for words in &compared.words {
        let _ = write!(out, "<p>{}</p>", escape(words));
    }
    out.push_str(&plot(compared));
    out.push_str(&table(&compared.settings));
    foot(about, &mut out);
    out.push_str("</body></html>\n");
    out
}

fn plot(compared: &Comparison) -> String {
    // Others first, so that what matters is drawn over them.
    let looks = [(Role::Other, "others", "a"), (Role::Reference, "in force", "d"), (Role::Best, "best", "e")];
    let mut lines: Vec<Line> = Vec::new();
    for (role, name, class) in looks {
        let alike = compared.settings.iter().filter(|setting| setting.role == role);
        // One entry of the legend for all that look the same. Dots, because a rate that is measured again
        // has another latency: a line through both would say something of its own.
        let named = alike.enumerate().map(|(i, setting)| Line {
            dots: true,
            ..Line::new(if i == 0 { name } else { "" }, class, setting.points())
        });
        lines.extend(named);
    }
    let (low, high) = range(lines.iter(), compared.level.as_ref().map(|level| level.0));
    let rates = || lines.iter().flat_map(|line| line.points.iter().map(|point| point.0));
    let x = Axis::log(rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
    Plot {
        title: "Latency by rate",
        x: (x, "requests a second"),
        y: (Axis::log(low, high), "p99 of right answers, milliseconds"),
        lines,
        level: compared.level.clone(),
    }
    .figure()
}

fn table(settings: &[Setting]) -> String {
    let mut out = String::from(
        "<table><tr><th>setting</th><th>requests/s kept</th><th>p50, ms</th><th>p99, ms</th></tr>",
    );
    for setting in settings {
        let cells = match setting.best() {
            Some(step) => {
                let latency = &step.measured.latency;
                [kept(setting, step.rate), ms(latency.p50_ms), ms(latency.p99_ms)]
            }
            None => {
                let lowest = setting.steps.iter().map(|step| step.rate).fold(f64::INFINITY, f64::min);
                let less =
                    if lowest.is_finite() { format!("below {}", number(lowest)) } else { String::new() };
                [less, String::new(), String::new()]
            }
        };
        let [rate, p50, p99] = cells;
        let name = escape(&setting.name);
        let _ = write!(out, "<tr><td>{name}</td><td>{rate}</td><td>{p50}</td><td>{p99}</td></tr>");
    }
    out.push_str("</table>\n");
    out
}

/// The highest rate that was kept, and the lowest above it that was not where that is far away.
fn kept(setting: &Setting, best: f64) -> String {
    let missed = setting.steps.iter().map(|step| step.rate).filter(|rate| *rate > best);
    let missed = missed.fold(f64::INFINITY, f64::min);
    let far = missed.is_finite() && missed > best * 1.1;
    if far { format!("{} to {}", number(best), number(missed)) } else { number(best) }
}
