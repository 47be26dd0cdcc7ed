"""What to change after many runs: the lines to take, or the command that finds them."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from capplan.report import page
from capplan.report.figures_odds import chance
from capplan.targets import kubernetes, system
from capplan.targets.advice import Advised, advised

if TYPE_CHECKING:
    from collections.abc import Mapping

SYSCTL = "sysctl.d"
EXPORTS: tuple[tuple[str, Callable[[Advised], dict[str, str]]], ...] = (
    (SYSCTL, system.sysctl_conf), ("Kubernetes patches", kubernetes.patches),
    ("systemd drop-ins", system.systemd_dropins), ("a compose override", system.compose_override),
)  # fmt: skip


class Change(NamedTuple):
    """A sentence, the lines for the node file, and the same lines in other forms."""

    text: str
    yaml: str = ""
    forms: tuple[tuple[str, str], ...] = ()  # what it is, lines to copy
    commands: tuple[tuple[str, str], ...] = ()  # what it answers, command


def change(summary: Mapping[str, Any]) -> Change:
    """The pick's settings, where the result picks one; else which command finds some."""
    made = {
        "comparison": _of_comparison, "recommendation": _of_recommendation, "sweep": _of_sweep,
        "headroom": _of_headroom,
    }.get(summary["kind"])  # fmt: skip
    found = None if made is None else made(summary)
    if found is not None:
        return found
    if summary.get("fits"):
        return Change("Nothing has to change for this plan.")
    text = "These runs say how likely it is; these commands find what would mend it:"
    return Change(text, commands=_next(summary))


def _of_comparison(summary: Mapping[str, Any]) -> Change | None:
    pick = summary.get("pick")
    if pick is None:
        return None
    setting = summary["settings"][pick]
    fits = summary.get("fits")
    text = {
        True: f"Take {setting['label']}:",
        False: f"No setting fits; the best of them is {setting['label']}:",
        None: f"The best is {setting['label']}; whether it fits these runs do not decide:",
    }[fits]
    return _settings(text, setting["settings"], summary)


def _of_sweep(summary: Mapping[str, Any]) -> Change | None:
    points, fitting = summary["points"], summary.get("fitting") or []
    if fitting:
        text = f"{len(fitting)} of {len(points)} points fit; the first is:"
        return _settings(text, points[fitting[0]]["settings"])
    ran = [p for p in points if (p.get("risks") or {}).get("kill", {}).get("p") is not None]
    if not ran:
        return None
    least = min(ran, key=lambda p: (p["risks"]["kill"]["p"], p["index"]))
    open_ = any(p.get("fits") is None for p in ran)
    said = "No point is shown to fit by its runs" if open_ else "No point fits"
    risk = chance(least["risks"]["kill"])
    return _settings(f"{said}; the risk of a kill is least, {risk}, at:", least["settings"])


def _of_headroom(summary: Mapping[str, Any]) -> Change:
    if any(room.get("value") is not None for room in summary.get("rooms") or []):
        return Change("Nothing has to change. Each knob below may be turned that far by itself.")
    return Change("No knob below may be turned any further.", commands=_next(summary))


def _of_recommendation(summary: Mapping[str, Any]) -> Change:
    text = "In the node file:"
    if summary.get("fits") is False:
        text = "These limits come nearest to the bar without meeting it. In the node file:"
    return _settings(text, summary["settings"], summary)


def _titled(files: Mapping[str, str]) -> str:
    """Each file under its name; one file alone without."""
    if len(files) == 1:
        return next(iter(files.values())).rstrip()
    return "\n".join(f"# --- {name}\n{text}" for name, text in files.items()).rstrip()


def _settings(
    text: str, given: Mapping[str, Any], whole: Mapping[str, Any] | None = None
) -> Change:
    """Settings as lines of a node file; with the ``whole`` result as what is applied, too."""
    settings = {str(key): str(value) for key, value in given.items()}
    forms = () if whole is None else tuple(_applied(whole))
    return Change(text, page.node_file_lines(settings), forms)


def _applied(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What ``capplan export`` writes of a result, each kind that has anything to say."""
    try:
        said = advised(summary, summary["kind"], summary)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return  # a result without its input
    for what, writer in EXPORTS:
        files = writer(said)
        if files and (what != SYSCTL or said.sysctl):  # a file of comments sets nothing
            yield what, _titled(files)


def _next(summary: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Commands on the same node that say more; none where the node file is not known."""
    words = shlex.split(str((summary.get("provenance") or {}).get("command", "")))
    node = next((w for w in words[2:] if w.endswith((".yaml", ".yml")) and w[0] != "-"), "")
    if not node:
        return ()
    given = [after for word, after in itertools.pairwise(words) if word == "--set"]
    sets = "".join(f" --set {shlex.quote(each)}" for each in given)
    return (
        ("One run as a story, with what would mend it:", f"capplan simulate {node}{sets}"),
        ("The least limits that hold the bar:", f"capplan recommend {node}{sets}"),
    )
