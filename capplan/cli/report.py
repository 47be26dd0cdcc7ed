"""``capplan report``: a result as a page, a comment, a table or pictures."""

from __future__ import annotations

from pathlib import Path

import click

FORMS = ("html", "md", "csv", "json", "png", "svg")
PAGE = "report.html"
BOTH = "comparison.html"
PICTURES = "pictures"


@click.command()
@click.argument("result", type=click.Path(path_type=Path, exists=True))
@click.argument("other", required=False, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(FORMS),
    default="html",
    show_default=True,
    help="html: one page; md: a pull request's comment; csv: the containers; png, svg: pictures.",
)
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    help="File (for pictures: folder) to write.  [default: RESULT/report.html, RESULT/pictures; "
    "md, csv and json go to stdout]",
)
def report(result: Path, other: Path | None, form: str, out: Path | None) -> None:
    """Report RESULT (a result directory), or compare the run in it with OTHER.

    RESULT is of simulate, risk, sweep, compare, headroom, recommend or check. Two runs give what
    changed in the input and what changed in the outcome. The same results give the same bytes.
    """
    from capplan.report import deliver
    from capplan.report.files import replace_file

    found = deliver.open_result(result, other)
    folder = result if result.is_dir() else result.parent
    if form in ("png", "svg"):
        directory = out if out is not None else folder / PICTURES
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in found.pictures(form).items():
            click.echo(str(replace_file(directory / name, content)))
        return
    text: str = getattr(found, form)()
    if out is None and form != "html":
        click.echo(text, nl=False)
        return
    path = out if out is not None else folder / (PAGE if other is None else BOTH)
    path.parent.mkdir(parents=True, exist_ok=True)
    click.echo(str(replace_file(path, text.encode())))
