"""Line charts as SVG, for the documentation: readable on light and on dark pages."""

import math
from html import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 56, 56
# Colours that people with any colour vision tell apart (Okabe and Ito, 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
STYLE = ("text{font:13px system-ui,sans-serif;fill:#333}.title{font-size:16px;font-weight:600}"
         ".axis{stroke:#888}.grid{stroke:#ddd}"
         "@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}}")


def round_steps(low, high, most=6):
    """Ticks of 1, 2 or 5 times a power of ten that cover `low` to `high`."""
    raw = (high - low) / most or 1
    power = 10 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [i * step for i in range(first, last + 1)]


def decades(low, high):
    """Powers of ten that cover `low` to `high`."""
    return [10.0**i for i in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


class Axis:
    """Values as positions between two pixels."""

    def __init__(self, values, start, end, logarithmic, from_zero):
        self.logarithmic = logarithmic
        low, high = (0 if from_zero and not logarithmic else min(values)), max(values)
        self.ticks = decades(low, high) if logarithmic else round_steps(low, high)
        self.start, self.end = start, end

    def at(self, value):
        scale = math.log10 if self.logarithmic else float
        low, high = scale(self.ticks[0]), scale(self.ticks[-1])
        return self.start + (scale(value) - low) / ((high - low) or 1) * (self.end - self.start)


def number(value):
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


def line_chart(title, x_label, y_label, series, log_x=False, log_y=False, x_ticks=None):
    """An SVG document. `series` maps a name to its points; `x_ticks` to labels of the x axis."""
    points = [p for line in series.values() for p in line]
    x = Axis([p[0] for p in points], LEFT, WIDTH - RIGHT, log_x, False)
    y = Axis([p[1] for p in points], HEIGHT - BOTTOM, TOP, log_y, True)
    if x_ticks:
        x.ticks = sorted(x_ticks)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
             f'aria-label="{escape(title)}"><style>{STYLE}</style>',
             f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>']
    for value in y.ticks:
        at = f"{y.at(value):.1f}"
        parts += [f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>',
                  f'<text x="{LEFT - 8}" y="{at}" dy="4" text-anchor="end">{number(value)}</text>']
    for value in x.ticks:
        label = (x_ticks or {}).get(value, number(value))
        parts.append(f'<text x="{x.at(value):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{label}</text>')
    parts += [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>',
              f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>',
              f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
              f'text-anchor="middle">{escape(y_label)}</text>']
    for index, (name, line) in enumerate(series.items()):
        parts += drawn(line, x, y, COLOURS[index % len(COLOURS)])
        parts += legend(index, name, COLOURS[index % len(COLOURS)])
    return "\n".join([*parts, "</svg>"]) + "\n"


def drawn(line, x, y, colour):
    at = [(x.at(a), y.at(b)) for a, b in line]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in at)
    dots = [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"/>' for a, b in at]
    return [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>', *dots]


def legend(index, name, colour):
    left = LEFT + 165 * index
    return [f'<rect x="{left}" y="34" width="12" height="4" fill="{colour}"/>',
            f'<text x="{left + 18}" y="41">{escape(name)}</text>']
