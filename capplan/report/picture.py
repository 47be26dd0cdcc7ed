"""memory.png: who held the node's memory, when, against marks and limits.

Stacked by owner: daemons and kernel below, then the containers that held most, the others
together, page cache, free memory. A narrow strip below shows swap. Marks of events carry the
incident's number, the title the finding.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from capplan.plan.outcome_context import Context
from capplan.plan.outcome_series import PAGE_SIZE, Array
from capplan.report.words import clean
from capplan.units import GIB, MIB, format_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from capplan.plan.outcome_model import Outcome
    from capplan.sim.result import Run

TOP = 6
KIB = 1024
POINTS = 1200  # more samples than this are thinned: the picture has no more pixels
# Okabe and Ito's colours (jfly.uni-koeln.de/color): told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
OTHERS, KERNEL, DAEMONS, CACHE, FREE = "#8C8C8C", "#4D4D4D", "#737373", "#F0E442", "#F2F2F2"
POOL, LISTS = "#9C6B3A", "#D9D9D9"
TIME_UNITS = ((1, "s"), (60, "min"), (3600, "h"), (86400, "d"))
TIME_STEPS = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800,
    14400, 21600, 43200, 86400, 172800, 432000, 864000,
)  # fmt: skip
VISIBLE = 1e-3  # of the node's memory: less is no band
ALARM = "#B00020"
MARK_STYLES = {"min": "-", "low": "--", "high": ":"}


class Layer(NamedTuple):
    """One band of the stack [bytes]."""

    label: str
    values: Array
    colour: str


def draw(outcome: Outcome, run: Run, path: Path) -> None:
    """Write the picture to ``path`` (the suffix says the format: png or svg)."""
    path.write_bytes(_render(outcome, run, path.suffix.lstrip(".") or "png"))


def png(outcome: Outcome, run: Run) -> bytes:
    """The picture as PNG; the same run gives the same bytes."""
    return _render(outcome, run, "png")


def _render(outcome: Outcome, run: Run, kind: str) -> bytes:
    import matplotlib

    # no date, no version, fixed ids: bytes depend on the run only
    metadata = {"Software": None} if kind == "png" else {"Date": None}
    with matplotlib.rc_context({"svg.hashsalt": "capplan"}):
        out = io.BytesIO()
        figure(outcome, run).savefig(out, format=kind, dpi=110, metadata=metadata)
    return out.getvalue()


def figure(outcome: Outcome, run: Run) -> Figure:
    """The picture as a matplotlib Figure (no pyplot: nothing global is touched)."""
    from matplotlib.figure import Figure

    context = Context(run)
    swap, tight = _swap(context), _tightest(outcome, context)
    heights = [4.0, *([1.5] if tight else []), *([1.0] if swap is not None else [])]
    made = Figure(figsize=(11, 2.5 + sum(heights)), layout="constrained")
    grid = {"height_ratios": heights}
    panels = made.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw=grid)[:, 0]
    every = max(1, -(-context.series.t.size // POINTS))
    _memory(panels[0], outcome, context, every)
    if tight:
        _limit_strip(panels[1], context, tight, every)
    if swap is not None:
        _swap_strip(panels[-1], context, swap, every)
    for axes in panels:
        _events(axes, outcome, numbered=axes is panels[0])
        _legend(axes)
    _time_axis(panels[-1], context)
    return made


def _memory(axes: Axes, outcome: Outcome, context: Context, every: int) -> None:
    unit, name = _unit(outcome.node.memory_bytes)
    _stack(axes, context, every, unit)
    _marks(axes, outcome, unit)
    axes.set_ylabel(f"memory of the node [{name}]")
    axes.set_title(_foreign(_title(outcome)), loc="left", fontsize=11, pad=16, wrap=True)


def _unit(size: float) -> tuple[int, str]:
    """The unit of an axis that ends at ``size`` bytes."""
    return (GIB, "GiB") if size >= 4 * GIB else (MIB, "MiB")


def _legend(axes: Axes) -> None:
    """Outside the data, in the order of the stack from the top."""
    handles, labels = axes.get_legend_handles_labels()
    bands = [n for n, h in enumerate(handles) if hasattr(h, "get_paths")]
    order = [*reversed(bands), *(n for n in range(len(handles)) if n not in bands)]
    axes.legend(
        [handles[n] for n in order], [labels[n] for n in order], loc="upper left",
        bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8,
    )  # fmt: skip


def _foreign(text: str) -> str:
    """``text`` that matplotlib takes neither for mathematics nor for a label to hide."""
    text = clean(text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _title(outcome: Outcome) -> str:
    """The finding: the verdict's first clause."""
    finding = outcome.verdict.split("; ")[0].rstrip(".")
    return f"{outcome.name}: {finding[0].lower()}{finding[1:]}"


# --- the stack ---------------------------------------------------------------------------


def layers(context: Context) -> list[Layer]:
    """The bands from bottom to top; they add up to the node's memory."""
    series = context.series
    zero = np.zeros(series.t.size)

    def kib(name: str) -> Array:
        found = series.get(f"meminfo_kb.{name}")
        return zero if found is None else np.nan_to_num(found) * KIB

    free, total = kib("MemFree"), np.full(series.t.size, float(context.memory))
    cache = kib("Active(file)") + kib("Inactive(file)")
    owned = [(name, held) for name, held in _owners(context).items() if held.any()]
    owned.sort(key=lambda item: (-float(item[1].max()), item[0]))
    inside = np.sum([held for _, held in owned], axis=0) if owned else zero
    anon = kib("Active(anon)") + kib("Inactive(anon)") + kib("Unevictable")
    daemons = np.clip(anon - inside, 0.0, None)
    pcp = series.get("pcp.pages")
    lists = zero if pcp is None else np.nan_to_num(pcp) * PAGE_SIZE
    pool = kib("Zswap")
    kernel = np.clip(total - free - lists - pool - cache - inside - daemons, 0.0, None)
    made = [Layer("kernel", kernel, KERNEL), Layer("daemons", daemons, DAEMONS)]
    made.append(Layer("zswap pool", pool, POOL))
    made += [Layer(_foreign(n), held, COLOURS[i]) for i, (n, held) in enumerate(owned[:TOP])]
    rest = [held for _, held in owned[TOP:]]
    if rest:
        made.append(Layer(f"{len(rest)} more containers", np.sum(rest, axis=0), OTHERS))
    made.append(Layer("page cache", cache, CACHE))
    made += [Layer("free, on per-cpu lists", lists, LISTS), Layer("free", free, FREE)]
    return [layer for layer in made if layer.values.max() > VISIBLE * context.memory]


def _owners(context: Context) -> dict[str, Array]:
    """Anonymous and shared memory of each container [bytes]; its page cache is drawn as cache."""
    owners: dict[str, Array] = {}
    for name, path in context.container_cgroup.items():
        group = context.group(path)
        parts = [p for p in (group.anon, group.shmem) if p is not None]
        if not parts or context.sharing[path] > 1:
            rows = context.totals[name]
            rss = context.series.total(*(f"process.{row.process}.rss_pages" for row in rows))
            parts = [] if rss is None else [rss * PAGE_SIZE]
        if parts:
            owners[name] = np.asarray(np.nan_to_num(np.nansum(parts, axis=0)))
    return owners


def _stack(axes: Axes, context: Context, every: int, unit: int) -> None:
    bands = layers(context)
    axes.stackplot(
        context.series.t[::every],
        *(band.values[::every] / unit for band in bands),
        labels=[band.label for band in bands],
        colors=[band.colour for band in bands],
        linewidth=0,
    )
    axes.set_ylim(0, context.memory / unit)
    axes.set_xlim(float(context.series.t[0]), float(context.series.t[-1]))


def _marks(axes: Axes, outcome: Outcome, unit: int) -> None:
    """Min, low and high, measured downwards from the top: free memory hangs there."""
    for name, style in MARK_STYLES.items():
        size = sum(getattr(zone, f"{name}_bytes") for zone in outcome.node.zones)
        if size:
            level = (outcome.node.memory_bytes - size) / unit
            label = f"free = {name} marks ({format_bytes(size)})"
            axes.axhline(level, color="black", linewidth=0.9, linestyle=style, label=label)


def _events(axes: Axes, outcome: Outcome, *, numbered: bool) -> None:
    """A line per incident, with its number on top; those near each other share one."""
    near = 0.02 * max(outcome.duration_s, 1e-9)
    shown: list[tuple[float, list[int]]] = []
    for incident in outcome.incidents:
        if incident.breaks and shown and incident.t - shown[-1][0] < near:
            shown[-1][1].append(incident.number)
        elif incident.breaks:
            shown.append((incident.t, [incident.number]))
    for n, (t, numbers) in enumerate(shown):
        label = "incident, numbered as in the report" if n == 0 and numbered else None
        axes.axvline(t, color=ALARM, linewidth=1.2, label=label)
        if numbered:
            text = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
            axes.annotate(
                text, (t, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3),
                textcoords="offset points", ha="center", color=ALARM, fontsize=9, weight="bold",
            )  # fmt: skip


# --- the limit that was hit --------------------------------------------------------------


def _tightest(outcome: Outcome, context: Context) -> str:
    """The cgroup whose limit the first incident met; "" when none did."""
    for incident in outcome.incidents:
        keys = ("memory.high",) if incident.kind == "throttled" else (context.limit_key,)
        if not incident.breaks or incident.kind not in ("oom_kill", "paused", "throttled"):
            continue
        group = next((g for k in keys if (g := context.limiting(incident.cgroup, k))), None)
        if group and context.group(group).usage is not None:
            return group
    return ""


def _limit_strip(axes: Axes, context: Context, path: str, every: int) -> None:
    """Usage of one cgroup against its limits."""
    group, t = context.group(path), context.series.t[::every]
    usage = (
        np.nan_to_num(group.usage) if group.usage is not None else np.zeros(context.series.t.size)
    )
    limits = {k: context.limit_series(path, k) for k in (context.limit_key, "memory.high")}
    top = max(
        float(usage.max()), *(float(v[np.isfinite(v)].max(initial=0)) for v in limits.values())
    )
    unit, name = _unit(top)
    cache = np.zeros_like(usage) if group.cache is None else np.nan_to_num(group.cache)
    kept = np.maximum(usage - cache, 0.0)
    axes.stackplot(
        t, kept[::every] / unit, (usage - kept)[::every] / unit, linewidth=0,
        labels=[f"{_foreign(path)}: without page cache", "its page cache"],
        colors=[COLOURS[5], CACHE],
    )  # fmt: skip
    for (key, values), style in zip(limits.items(), ("-", "--")):
        if np.isfinite(values).any():
            level = np.where(np.isfinite(values), values, np.nan)[::every] / unit
            label = f"{key} ({format_bytes(float(values[np.isfinite(values)][-1]))})"
            axes.step(
                t, level, where="post", color="black", linewidth=0.9, linestyle=style, label=label
            )
    axes.set_ylim(0, 1.05 * top / unit)
    axes.set_ylabel(f"at its limit [{name}]")


# --- swap --------------------------------------------------------------------------------


def _swap(context: Context) -> Array | None:
    """Used swap [bytes], None where there is none."""
    total, free = (context.series.get(f"meminfo_kb.{n}") for n in ("SwapTotal", "SwapFree"))
    if not context.swap_total or total is None or free is None:
        return None
    return np.asarray(np.nan_to_num(total - free) * KIB)


def _swap_strip(axes: Axes, context: Context, swap: Array, every: int) -> None:
    unit, name = _unit(context.swap_total)
    t = context.series.t[::every]
    axes.fill_between(t, swap[::every] / unit, color=COLOURS[4], linewidth=0, label="swap used")
    zswap = context.series.get("meminfo_kb.Zswap")
    if zswap is not None and np.nanmax(zswap) > 0:
        pool = np.nan_to_num(zswap)[::every] * KIB / unit
        axes.plot(t, pool, color=COLOURS[5], linewidth=1.2, label="zswap pool (in memory)")
    axes.axhline(context.swap_total / unit, color="black", linewidth=0.9, label="swap size")
    axes.set_ylim(0, context.swap_total / unit * 1.05)
    axes.set_ylabel(f"swap [{name}]")


def _time_axis(axes: Axes, context: Context) -> None:
    """At most ten ticks, at whole seconds, minutes, hours or days."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    span = context.duration
    unit, name = next((u for u in TIME_UNITS if span <= 120 * u[0]), TIME_UNITS[-1])
    step = next((s for s in TIME_STEPS if span <= 10 * s), span / 10)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / unit:g}"))
    axes.set_xlabel(f"run time [{name}]")
