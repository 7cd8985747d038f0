//! Line plots as SVG.

use std::fmt::Write;

use super::axis::Axis;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
/// Room for the axes' words: left, right, top, bottom.
const MARGIN: [f64; 4] = [64.0, 16.0, 14.0, 46.0];

/// What is drawn.
pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) x: (Axis, &'static str),
    pub(super) y: (Axis, &'static str),
    pub(super) lines: Vec<Line>,
    /// A level to compare with, and its name.
    pub(super) level: Option<(f64, String)>,
}

/// One series. `class` is its colour, in the page's style; without a name it is not in the legend.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) class: &'static str,
    pub(super) points: Vec<(f64, f64)>,
    /// Marks at the points, without a line between them.
    pub(super) dots: bool,
}

impl Line {
    pub(super) fn new(name: &'static str, class: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self { name, class, points, dots: false }
    }
}

/// Text in XML and HTML.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What XML has no way to write.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

impl Plot {
    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let [left, right, top, bottom] = MARGIN;
        (
            left + self.x.0.place(x) * (WIDTH - left - right),
            HEIGHT - bottom - self.y.0.place(y) * (HEIGHT - top - bottom),
        )
    }

    /// The figure: title, legend, picture.
    pub(super) fn figure(&self) -> String {
        let mut out = format!("<figure><figcaption><h2>{}</h2><ul class=\"legend\">", escape(self.title));
        let named = |line: &&Line| !line.points.is_empty() && !line.name.is_empty();
        for line in self.lines.iter().filter(named) {
            let _ = write!(out, "<li><i class=\"{}\"></i>{}</li>", line.class, escape(line.name));
        }
        let _ = write!(
            out,
            "</ul></figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(self.title)
        );
        self.grid(&mut out);
        self.lines.iter().for_each(|line| self.line(line, &mut out));
        self.level(&mut out);
        out.push_str("</svg></figure>\n");
        out
    }

    fn grid(&self, out: &mut String) {
        let [left, right, top, bottom] = MARGIN;
        let (base, edge) = (HEIGHT - bottom, WIDTH - right);
        for (value, words) in self.y.0.ticks() {
            let y = HEIGHT - bottom - self.y.0.place(value) * (HEIGHT - top - bottom);
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{left} {y:.1}H{edge}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>",
                left - 8.0,
                y + 4.0,
                escape(&words)
            );
        }
        for (value, words) in self.x.0.ticks() {
            let x = left + self.x.0.place(value) * (WIDTH - left - right);
            let _ = write!(
                out,
                "<path class=\"axis\" d=\"M{x:.1} {base}v5\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{}</text>",
                base + 18.0,
                escape(&words)
            );
        }
        let middle = (top + base) / 2.0;
        let _ = write!(
            out,
            "<path class=\"axis\" d=\"M{left} {top}V{base}H{edge}\"/>\
             <text class=\"unit\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text class=\"unit\" x=\"14\" y=\"{middle:.1}\" text-anchor=\"middle\" \
             transform=\"rotate(-90 14 {middle:.1})\">{}</text>",
            (left + edge) / 2.0,
            HEIGHT - 8.0,
            escape(self.x.1),
            escape(self.y.1)
        );
    }

    fn line(&self, line: &Line, out: &mut String) {
        if line.dots || line.points.len() == 1 {
            for point in &line.points {
                let (x, y) = self.at(*point);
                let _ = write!(out, "<circle class=\"{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>", line.class);
            }
            return;
        }
        if line.points.is_empty() {
            return;
        }
        let _ = write!(out, "<path class=\"line {}\" d=\"", line.class);
        for (i, point) in line.points.iter().enumerate() {
            let (x, y) = self.at(*point);
            let _ = write!(out, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
        }
        out.push_str("\"/>");
    }

    fn level(&self, out: &mut String) {
        let Some((value, name)) = &self.level else { return };
        let (x, y) = self.at((f64::MAX, *value));
        let _ = write!(
            out,
            "<path class=\"level\" d=\"M{} {y:.1}H{x:.1}\"/><text class=\"tick over\" x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            MARGIN[0],
            x - 4.0,
            // Above the line, or below it where it is at the top.
            if y > 40.0 { y - 5.0 } else { y + 14.0 },
            escape(name)
        );
    }
}
