"""One incident's story as text (``capplan explain RESULT [EVENT]``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from capplan.errors import InputError, quoted
from capplan.report.lines import aligned, wrap
from capplan.report.words import clean, size, time

if TYPE_CHECKING:
    from capplan.plan.outcome_model import Candidate, Incident, Outcome

LISTED = 20  # numbers in an error


def tell(outcome: Outcome, event: str | None = None) -> str:
    """The story of one incident.

    Parameters
    ----------
    outcome : Outcome
        Of a run or read back from a result directory.
    event : str, optional
        The incident's number, or a kind or name that only one has. None: the only incident's
        story, or a list when there are several.

    Returns
    -------
    str
        Text for people.

    Raises
    ------
    InputError
        When no incident, or more than one, is meant by ``event``.
    """
    if event is not None:
        return _story(_find(outcome, event))
    if not outcome.incidents:
        return f"{clean(outcome.verdict)}\nNothing went wrong in this run."
    if len(outcome.incidents) == 1:
        return _story(outcome.incidents[0])
    lines = [
        *wrap(outcome.verdict),
        "",
        f"{len(outcome.incidents)} incidents; name one for its story:",
    ]
    lines += [
        f"  {i.number:>3}  {time(i.t):>12}  {clean(i.title)}"
        + (f" ({i.count}x)" if i.count > 1 else "")
        for i in outcome.incidents
    ]
    return "\n".join(lines)


def _find(outcome: Outcome, event: str) -> Incident:
    found = [i for i in outcome.incidents if event == str(i.number)] or [
        i for i in outcome.incidents if event in (i.kind, i.name, i.container)
    ]
    if len(found) == 1:
        return found[0]
    numbers = ", ".join(str(i.number) for i in (found or outcome.incidents)[:LISTED])
    if found:
        said = (
            f"{quoted(event)} is {len(found)} incidents\n    expected one of the numbers {numbers}"
        )
        raise InputError(said)
    kinds = ", ".join(dict.fromkeys(i.kind for i in outcome.incidents))
    expected = (
        f"a number ({numbers}), a kind ({kinds}) or a name" if numbers else "none: all went well"
    )
    raise InputError(f"{quoted(event)} is no incident of this run\n    expected {expected}")


def _story(incident: Incident) -> str:
    """Headline, how it came about, who was chosen, what could have been seen."""
    lines = [*wrap(f"Incident {incident.number}: {incident.title}")]
    where = f"cgroup {incident.cgroup}" if incident.cgroup else ""
    owner = f"container {incident.container}" if incident.container else ""
    about = ", ".join(part for part in (owner, where) if part)
    lines += [*wrap(about)] if about else []
    lines += ["", "How it came about"]
    for step, link in enumerate(incident.chain, 1):
        lines += wrap(link, f"  {step}. ")
    if incident.victim is not None:
        lines += ["", "Whom the OOM killer weighed", *_scales(incident)]
    if incident.ranking is not None:
        ranking = incident.ranking
        rows = [tuple(map(clean, row)) for row in ranking.rows]
        lines += ["", clean(ranking.title), *aligned(ranking.headers, rows)]
    lines += ["", *_before(incident)]
    return "\n".join(lines)


def _scales(incident: Incident) -> list[str]:
    """Victim and runners-up side by side."""
    headers = ("process", "badness", "resident", "in swap", "page tables", "oom_score_adj")
    weighed = (incident.victim, *incident.runners_up)
    lines = aligned(headers, [_weight(c) for c in weighed if c is not None])
    if any(c.source == "series" for c in incident.runners_up):
        lines.append("  (~: recomputed from the last sample before, at most the victim's)")
    return lines


def _weight(c: Candidate) -> tuple[str, ...]:
    about = "~" if c.source == "series" else ""
    points = f"{about}{c.points:,}" if c.points else "-"
    return (
        clean(c.process), points, size(c.rss_bytes), size(c.swap_bytes), size(c.pgtables_bytes),
        str(c.oom_score_adj),
    )  # fmt: skip


def _before(incident: Incident) -> list[str]:
    if not incident.signs:
        return ["Nothing that an alert watches showed before."]
    lines = ["Signs before, the earliest first"]
    for sign in incident.signs:
        lines += wrap(sign.text, "  - ")
    return lines
