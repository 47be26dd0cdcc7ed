"""matplotlib's SVG made fit for a page: no prologue, ids of its own, short numbers, a name.

Several pictures share one page: ids that nobody refers to go, the others get the picture's name
in front. Colours become CSS variables.
"""

from __future__ import annotations

import re

from capplan.report.palette import themed

_PROLOGUE = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_STYLE = re.compile(r"<style\b.*?</style>", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_OPEN = re.compile(r"<svg\b[^>]*viewBox=\"([^\"]*)\"[^>]*>")
_ID = re.compile(r" id=\"([^\"]+)\"")
_USED = re.compile(r"(?:url\(#|xlink:href=\"#|[^:]href=\"#)([^\")]+)")
_REFERENCE = re.compile(r"(url\(#|href=\"#)([^\")]+)")
_LONG = re.compile(r"-?\d+\.\d{2,}")
_PATH = re.compile(r" d=\"([^\"]*)\"")
_SPACE = re.compile(r"\s*\n\s*")
_FONT = re.compile(r"'DejaVu Sans'(?:, [^;\"]+)?")
# groups that the page's script looks for
KEPT = re.compile(r"^(axes_\d+|matplotlib\.axis_\d+)$")


def fit(text: str, slug: str, title: str, alt: str) -> str:
    """``text`` (a whole SVG file) as an element of a page.

    Parameters
    ----------
    text : str
        What matplotlib wrote.
    slug : str
        The picture's name in the page: ids begin with it.
    title, alt : str
        Escaped already: what a screen reader says.
    """
    text = _METADATA.sub("", _COMMENT.sub("", _PROLOGUE.sub("", text)))
    text = _STYLE.sub("", text)
    box = _OPEN.search(text)
    if box is None:
        raise ValueError("no <svg> with a viewBox")
    used = set(_USED.findall(text))

    def named(found: re.Match[str]) -> str:
        name = found[1]
        if name in used:
            return f' id="{slug}-{name}"'
        return f' data-part="{name.rpartition(".")[2]}"' if KEPT.match(name) else ""

    text = _ID.sub(named, text)
    text = _REFERENCE.sub(lambda found: f"{found[1]}{slug}-{found[2]}", text)
    text = _PATH.sub(lambda found: f' d="{_path(found[1])}"', text)
    text = _FONT.sub("inherit", themed(text))
    head = (
        f'<svg viewBox="{box[1]}" role="img" aria-labelledby="{slug}-title {slug}-alt"'
        f' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{slug}-title">{title}</title><desc id="{slug}-alt">{alt}</desc>'
    )
    text = _OPEN.sub(lambda _: head, text, count=1)
    return _SPACE.sub("\n", text).strip()


def _path(data: str) -> str:
    """Path data with numbers of at most two places and no line breaks."""
    return _LONG.sub(_short, " ".join(data.split()))


def _short(found: re.Match[str]) -> str:
    text = f"{float(found[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
