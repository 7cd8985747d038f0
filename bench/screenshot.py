"""Draws what a terminal shows as an SVG, for the docs.

    tmux capture-pane -e -p -t SESSION | python3 bench/screenshot.py > docs/images/top.svg

Reads colours as `tmux capture-pane -e` writes them (SGR, ECMA-48 section 8.3.117): the eight of
the palette, bright ones, bold and reverse; whatever else is set is left aside.
"""

import html
import re
import sys

CELL, LINE, PAD = 8.4, 18, 12
PALETTE = ["#1c1f26", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d7dae0"]
BRIGHT = ["#7f848e"] + PALETTE[1:]
BACK, FRONT = "#1c1f26", "#d7dae0"


def runs(line, state):
    """Text with its colour, weight and whether it is reversed; `state` goes on to the next line."""
    color, bold, reverse = state
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if not part.startswith("\x1b"):
            if part:
                yield part, color, bold, reverse
            continue
        codes = re.sub(r"38;5;(\d+)", lambda m: str(30 + int(m[1]) if int(m[1]) < 8 else 82 + int(m[1])), part[2:-1])
        for code in [int(c or 0) for c in codes.split(";")]:
            if code == 0:
                color, bold, reverse = FRONT, False, False
            elif code in (1, 7):
                bold, reverse = bold or code == 1, reverse or code == 7
            elif code == 39:
                color = FRONT
            elif 30 <= code <= 37:
                color = PALETTE[code - 30]
            elif 90 <= code <= 97:
                color = BRIGHT[code - 90]
    state[:] = color, bold, reverse


def main():
    lines = sys.stdin.read().rstrip("\n").split("\n")
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    width = max(map(len, plain)) * CELL + 2 * PAD
    height = len(lines) * LINE + 2 * PAD
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14">'
    )
    print(f'<rect width="100%" height="100%" rx="8" fill="{BACK}"/>')
    state = [FRONT, False, False]
    for row, line in enumerate(lines):
        column = 0
        for text, color, bold, reverse in runs(line, state):
            x, y = PAD + column * CELL, PAD + row * LINE
            if reverse:
                print(f'<rect x="{x:.1f}" y="{y}" width="{len(text) * CELL:.1f}" height="{LINE}" fill="{color}"/>')
            if text.strip():
                fill = BACK if reverse else color
                weight = ' font-weight="bold"' if bold else ""
                # Renderers fold spaces; no-break spaces they leave.
                spaced = html.escape(text).replace(" ", "\u00a0")
                # Each run keeps its columns, whatever font there is.
                print(
                    f'<text x="{x:.1f}" y="{y + 14}" fill="{fill}"{weight} '
                    f'textLength="{len(text) * CELL:.1f}">{spaced}</text>'
                )
            column += len(text)
    print("</svg>")


if __name__ == "__main__":
    main()
