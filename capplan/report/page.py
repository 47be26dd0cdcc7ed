"""The page of one run: what its sections hold, in the order in which they are read."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from capplan.plan.advice import Advice, advise
from capplan.plan.outcome_context import Context
from capplan.plan.outcome_model import Outcome
from capplan.report import (
    figures_containers,
    figures_fragmentation,
    figures_memory,
    figures_pressure,
    figures_swap,
    html,
    tables,
    text,
    words,
)
from capplan.report.plates import plate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from capplan.plan.outcome_model import Incident
    from capplan.report.chart import Chart
    from capplan.report.record import Recorded

TOLD = 12  # incidents with their whole story; the others by their titles
INPUT_BYTES = 60_000  # a longer input stays in its own file
TOP = 20
NO_WORD = "Verdict"  # where a verdict begins with none of its own
LONGEST_WORD = 24  # in front of a verdict: "Does not fit", "No setting helps"
# as docs/support.md has it; a test holds the two together
NOT_MODELLED = (
    "highmem, memory hotplug, memory tiering, CXL",
    "processes that map huge pages of the pool (vm.nr_hugepages): all of it stays free",
    "KSM, DAMON, userfaultfd",
    "mbind(2) and policies of files, NUMA balancing, moving pages when cpuset.mems is written",
    (
        "what fills the highatomic reserve: atomic requests of higher orders by network and "
        "block drivers (a captured node brings the reserve that it has); kernel memory in higher "
        "orders, which wakes kcompactd too; what khugepaged collapses"
    ),
    ("network buffers and other memory of drivers, beyond the constant in node.system.kernel"),
    (
        "of the killers in user space: eviction for disk, inodes or process ids; "
        "systemd-oomd's rule files and pre-kill hooks; oomd of Meta; earlyoom's --kernel-oom, "
        "-g and hooks"
    ),
)
SECTIONS = (
    ("change", "What to change"), ("containers", "Containers"), ("node", "Node"),
    ("incidents", "Incidents"), ("methods", "Methods"),
)  # fmt: skip


class Material(NamedTuple):
    """All that a page of a run is made from."""

    summary: Mapping[str, Any]  # summary.json
    outcome: Outcome
    recorded: Recorded

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Version, seed, command and input."""
        found: Mapping[str, Any] = self.summary.get("provenance", {})
        return found

    @property
    def resolved(self) -> Mapping[str, Any]:
        """The resolved node file; empty when the run came from a scenario."""
        found = self.provenance.get("input") or {}
        return found if "containers" in found else {}


def write(material: Material) -> str:
    """The page as HTML; the same result gives the same text."""
    return html.render(
        "run.html.j2",
        page_title=f"{material.outcome.name}: {_short_verdict(material.outcome)}",
        version=str(material.provenance.get("capplan", "")),
        report=report(material),
    )


def _short_verdict(outcome: Outcome) -> str:
    return "fits" if outcome.fits else "does not fit"


def charts(material: Material) -> list[Chart]:
    """Every picture of the run, in the order of the page."""
    context = Context(material.recorded.run)
    return [*_of_containers(material, context), *_of_node(material, context)]


def _of_containers(material: Material, context: Context) -> list[Chart]:
    return figures_containers.charts(material.outcome, context)


def _of_node(material: Material, context: Context) -> list[Chart]:
    outcome = material.outcome
    found = [
        figures_memory.chart(outcome, context),
        figures_pressure.chart(outcome, context),
        figures_swap.chart(outcome, context),
        *figures_fragmentation.charts(outcome, context),
    ]
    shown = [chart for chart in found if chart is not None]
    if sum(not chart.wide for chart in shown) % 2:  # two stand beside each other
        shown[-1] = replace(shown[-1], wide=True)
    return shown


def advice_for(material: Material) -> tuple[Advice, ...]:
    """What would mend the verdict."""
    recorded = material.recorded
    return advise(material.outcome, Context(recorded.run), recorded.planned, material.resolved)


def report(material: Material) -> dict[str, Any]:
    """What the template shows."""
    outcome, context = material.outcome, Context(material.recorded.run)
    incidents = sorted(outcome.incidents, key=lambda i: (not i.breaks, i.t))
    told = sorted(incidents[:TOLD], key=lambda i: i.number)
    advice = advice_for(material)
    return {
        "title": outcome.name,
        "fits": outcome.fits,
        "verdict": verdict_text(outcome.verdict),
        "facts": facts(material),
        "sections": SECTIONS,
        "advice": [_change(a, v1=context.v1) for a in advice],
        "check": check_command(material, advice),
        "notes": outcome.notes,
        "containers": tables.shortened(
            tables.without(tables.containers(outcome), "cgroup"), always=5
        ),
        "rest": words.the_rest(outcome.containers, figures_containers.SHOWN),
        "container_plates": [plate(chart) for chart in _of_containers(material, context)],
        "node_plates": [plate(chart) for chart in _of_node(material, context)],
        "node": text.node_pairs(outcome),
        "incidents": [story(incident) for incident in told],
        "more_incidents": [i.title for i in incidents[TOLD:]],
        **methods(material),
    }


def verdict_text(verdict: str) -> tuple[str, str]:
    """The word in front of a verdict, and what follows."""
    word, _, said = verdict.partition(": ")
    return (word, said) if said and len(word) <= LONGEST_WORD else (NO_WORD, verdict)


def facts(material: Material) -> str:
    """One run is one draw: what that says, and what it does not."""
    outcome, run = material.outcome, material.recorded.run
    length, seed = words.time(outcome.duration_s), run.seed
    return (
        f"One run of {length} with seed {seed}: what happens with these draws, with no probability "
        "attached. How likely each incident is over many seeds, with its interval: capplan risk."
    )


# --- what to change ----------------------------------------------------------------------


def _change(advice: Advice, *, v1: bool) -> dict[str, str]:
    return {
        "title": advice.title,
        "basis": advice.basis,
        "caution": advice.caution,
        "yaml": node_file_lines(advice.settings),
        "host": host_lines(advice.files, v1=v1),
    }


def node_file_lines(settings: Mapping[str, str]) -> str:
    """Dotted keys as the YAML that a node file takes."""
    lines: list[str] = []
    open_: list[str] = []
    for dotted, value in settings.items():
        if dotted.startswith("timeline."):
            number, _, key = dotted.removeprefix("timeline.").partition(".set.")
            lines.append(f"# timeline, entry {int(number) + 1}: set {key} to {value} there too")
            open_ = []
            continue
        *above, key = _split(dotted)
        for depth, part in enumerate(above):
            if open_[: depth + 1] != above[: depth + 1]:
                lines.append(f"{'  ' * depth}{part}:")
        lines.append(f"{'  ' * len(above)}{key}: {value}")
        open_ = above
    return "\n".join(lines)


def _split(dotted: str) -> list[str]:
    """A dotted key as the keys of its levels: kernel files and sysctls keep their dots."""
    scope, _, rest = dotted.partition(".")
    if scope in ("vm", "kernel"):
        return ["node", "sysctl", dotted]
    if dotted.startswith("node.sysctl."):
        return ["node", "sysctl", dotted.removeprefix("node.sysctl.")]
    if dotted.startswith("cgroup.groups."):
        above, rest = [scope, "groups"], dotted.removeprefix("cgroup.groups.")
    elif scope == "containers":
        above = [scope]
    else:
        return dotted.split(".")
    name, found, key = rest.partition(".memory.")
    if found:
        return [*above, name, f"memory.{key}"]
    name, _, key = rest.rpartition(".")
    return [*above, name, key]


def host_lines(files: tuple[tuple[str, str], ...], *, v1: bool) -> str:
    """Writes to cgroupfs, paths as in this plan."""
    root = "/sys/fs/cgroup/memory" if v1 else "/sys/fs/cgroup"
    return "\n".join(f"echo {value} > {shlex.quote(f'{root}/{path}')}" for path, value in files)


def check_command(material: Material, advice: tuple[Advice, ...]) -> str:
    """The command of this run with every proposed setting."""
    command = str(material.provenance.get("command", ""))
    settings = {key: value for a in advice for key, value in a.settings.items()}
    if not command or not settings:
        return ""
    return " ".join([command, *(f"--set {shlex.quote(f'{k}={v}')}" for k, v in settings.items())])


# --- incidents ---------------------------------------------------------------------------


def story(incident: Incident) -> dict[str, Any]:
    """One incident as the template shows it."""
    title = incident.title + (f" ({incident.count}x)" if incident.count > 1 else "")
    return {
        "number": incident.number,
        "title": title,
        "chain": incident.chain,
        "signs": [sign.text for sign in incident.signs],
        "scales": _scales(incident),
        "ranking": _ranking(incident),
    }


def _scales(incident: Incident) -> tables.Table | None:
    """Whom the OOM killer weighed."""
    if incident.victim is None:
        return None
    columns = (
        tables.Column("process", "process", False), tables.Column("points", "badness"),
        tables.Column("rss_bytes", "resident"), tables.Column("swap_bytes", "in swap"),
        tables.Column("pgtables_bytes", "page tables"),
        tables.Column("oom_score_adj", "oom_score_adj"),
    )  # fmt: skip
    rows = []
    for c in (incident.victim, *incident.runners_up):
        about = "~" if c.source == "series" else ""
        rows.append(
            (
                tables.Cell(c.process, c.process),
                tables.Cell(f"{about}{c.points:,}" if c.points else words.NOTHING, c.points),
                tables.Cell(words.size(c.rss_bytes), c.rss_bytes),
                tables.Cell(words.size(c.swap_bytes), c.swap_bytes),
                tables.Cell(words.size(c.pgtables_bytes), c.pgtables_bytes),
                tables.Cell(str(c.oom_score_adj), c.oom_score_adj),
            )
        )
    caption = "Whom the OOM killer weighed, the victim first"
    if any(c.source == "series" for c in incident.runners_up):
        caption += " (~: recomputed from the last sample before)"
    return tables.Table(caption, columns, tuple(rows))


def _ranking(incident: Incident) -> tables.Table | None:
    """How a killer in user space ranked its candidates."""
    found = incident.ranking
    if found is None:
        return None
    columns = tuple(tables.Column(header, header, False) for header in found.headers)
    rows = tuple(tuple(tables.Cell(text) for text in row) for row in found.rows)
    return tables.Table(found.title, columns, rows)


# --- methods -----------------------------------------------------------------------------


def methods(material: Material) -> dict[str, Any]:
    """Where the figures come from, and how to get them again."""
    run, provenance = material.recorded.run, material.provenance
    scenario = run.scenario
    granule = (
        "page by page" if run.granule_pages == 1 else f"in granules of {run.granule_pages} pages"
    )
    engine = f"capplan {run.version}, {granule}; kernel {scenario.node.release}"
    every = words.time(scenario.sample_ns / words.NS_PER_S)
    return {
        "methods": [
            ("engine", f"{engine}, cgroup {scenario.cgroup_version}"),
            ("length", f"{words.time(material.outcome.duration_s)}, a sample every {every}"),
            ("seed", str(run.seed)),
            ("machine", str(provenance.get("machine", "unknown"))),
            ("draws", "counted, not timed: the same input, seed and version give the same result"),
        ],
        "assumptions": material.outcome.assumptions,
        "fidelity": [each.text for each in material.outcome.fidelity],
        "not_modelled": NOT_MODELLED,
        "command": str(provenance.get("command", "")),
        "input": input_text(material.resolved),
    }  # fmt: skip


def input_text(resolved: Mapping[str, Any]) -> str:
    """The resolved input as YAML; "" where there is none."""
    if not resolved:
        return ""
    import yaml

    said: str = yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True)
    if len(said) > INPUT_BYTES:
        return f"# {len(said):,} characters: resolved.yaml beside this report holds it"
    return said
