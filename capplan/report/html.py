"""HTML from templates: everything is escaped, a missing name is an error, nothing is fetched.

A page carries its style sheet, its script and its pictures. A content security policy says so to
the browser: no request leaves, and only the script whose hash it names may run.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capplan.report import lines, palette
from capplan.report.words import clean

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).resolve().parent / "templates"
# inside a <script> element these would end it, or begin something else
_PARENTHESES = re.compile(r"\([^()]{1,26}\)")  # an interval: a narrow cell breaks before it
_UNSAFE_JSON = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028"}


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, finalize=_finalize,
    )  # fmt: skip
    made.filters["json_data"] = json_data
    made.filters["units"] = lambda said: lines.together(str(said))
    made.filters["cell"] = lambda said: _PARENTHESES.sub(_glued, lines.together(str(said)))
    return made


def _glued(found: re.Match[str]) -> str:
    return found[0].replace(" ", lines.HARD_SPACE)


def _finalize(value: Any) -> Any:
    """Foreign text loses its control signs before it is escaped; markup of our own stays."""
    return clean_lines(value) if type(value) is str else value


def clean_lines(text: str) -> str:
    """``text`` with harmful signs made visible, its line breaks kept."""
    return "\n".join(clean(line) for line in text.split("\n"))


def json_data(value: Any) -> Any:
    """``value`` as JSON that is safe inside a script element."""
    from markupsafe import Markup

    said = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign, escape in _UNSAFE_JSON.items():
        said = said.replace(sign, escape)
    return Markup(said)  # every sign that could end the element is escaped above


def render(template: str, **context: Any) -> str:
    """A page of ``template``; the same context gives the same text."""
    from markupsafe import Markup

    style = (HERE / "report.css").read_text(encoding="utf-8")
    script = (HERE / "report.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(script.encode()).digest()
    return (
        _environment()
        .get_template(template)
        .render(
            style=Markup(style),  # the two files beside the templates
            script=Markup(script),
            script_hash=base64.b64encode(digest).decode(),
            light=palette.variables(palette.LIGHT),
            dark=palette.variables(palette.DARK),
            **context,
        )
    )
