"""Colours by name: one for light paper and pictures, one for dark pages.

Okabe and Ito's colours (jfly.uni-koeln.de/color) where things are told apart, greys for what is
not a container. Pictures are drawn in the light colours; in a page each becomes a CSS variable
of the same name, so that a reader's dark mode reaches them.
"""

from __future__ import annotations

import re

LIGHT = {
    "paper": "#fffffe", "ink": "#1b1f24", "quiet": "#57606b", "grid": "#d5d9de",
    "blue": "#0072b2", "orange": "#e69f00", "green": "#009e73", "pink": "#cc79a7",
    "sky": "#56b4e9", "red": "#d55e00", "yellow": "#f0e442", "brown": "#9c6b3a",
    "others": "#8c8c8c", "kernel": "#4d4d4d", "daemons": "#737373", "free": "#f2f2f2",
    "lists": "#d9d9d9", "alarm": "#b00020",
}  # fmt: skip
DARK = {
    "paper": "#14171b", "ink": "#e8eaed", "quiet": "#a6afb9", "grid": "#3b424a",
    "blue": "#3c9ad6", "orange": "#e69f00", "green": "#1eb58a", "pink": "#d48db6",
    "sky": "#7cc6ee", "red": "#ea7a2b", "yellow": "#cfc43a", "brown": "#b78650",
    "others": "#8c8c8c", "kernel": "#5a5f66", "daemons": "#7d838a", "free": "#262b31",
    "lists": "#3f464e", "alarm": "#ff8d85",
}  # fmt: skip
OWNERS = ("blue", "orange", "green", "pink", "sky", "red")
# Told apart on a black and white print too. matplotlib's signs for hatches.
HATCHES = {
    "orange": "///", "green": "---", "pink": "\\\\\\", "sky": "|||", "red": "xxx",
    "others": "+", "yellow": "//", "lists": "\\\\", "brown": "++",
}  # fmt: skip
PALE = ("yellow", "free", "lists", "orange", "sky")  # a dark hatch shows better on these

_HEX = re.compile("|".join(LIGHT.values()), re.IGNORECASE)
_NAMES = {value: name for name, value in LIGHT.items()}


def themed(svg: str) -> str:
    """``svg`` with every colour of the palette as the CSS variable of its name."""
    return _HEX.sub(lambda found: f"var(--{_NAMES[found[0].lower()]})", svg)


def variables(colours: dict[str, str]) -> str:
    """CSS declarations of a palette."""
    return "".join(f"--{name}:{value};" for name, value in colours.items())
