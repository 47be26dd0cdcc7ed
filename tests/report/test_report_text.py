"""The report as text: order, alignment, foreign names."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given
from rich.console import Console

from capplan.plan.outcome import Outcome, analyse
from capplan.report import text
from capplan.report.words import by_risk, clean
from tests.plan.synthetic import Maker, global_kill, memcg_kill, pages, paused, quiet, throttled

EVIL = "\x1b[31mred\x1b[0m[bold]x[/bold]\r\n\u202e"


def shown(outcome: Outcome, top: int = 20) -> str:
    out = io.StringIO()
    text.render(outcome, out, top=top)
    return out.getvalue()


def on_terminal(outcome: Outcome) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=160, color_system="standard")
    text.render(outcome, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def many(count: int) -> Outcome:
    made = Maker()
    for n in range(count):
        made.container(f"c{n}", [(0, 1)], limits={"memory_max": pages(2 + n)})
    return analyse(made.run())


def test_render_verdict_stands_first_then_containers_node_incidents_assumptions() -> None:
    made = memcg_kill()
    made.assumptions = ("the disk is an NVMe drive",)
    lines = shown(analyse(made.run()))
    heads = ["Does not fit: web", "Containers (2", "Node", "Incidents (1)", "Assumptions"]
    places = [lines.index(head) for head in heads]
    assert places == sorted(places)
    assert places[0] == 0
    assert "  - the disk is an NVMe drive" in lines


def test_render_plain_columns_are_aligned() -> None:
    lines = shown(analyse(memcg_kill().run())).splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith("  container"))
    column = lines[head].index("headroom")
    assert lines[head + 1][column:].startswith("2 MiB (1.43 %)")
    assert lines[head + 1].split()[0] == "web"
    assert lines[head + 2][column] == "-"
    assert "at 1 min 20 s" in lines[head + 1]


def test_render_leaves_out_columns_that_nobody_needs() -> None:
    calm = shown(analyse(quiet().run()))
    assert "killed" not in calm.split("Node")[0].split("Container")[1]
    assert "throttled" in shown(analyse(throttled().run()))


def test_render_no_line_is_wider_than_it_should_be() -> None:
    report = shown(analyse(global_kill().run()))
    table = re.compile(r"^  (container|leaker|victim|guarded) ")
    wide = [line for line in report.splitlines() if len(line) > 100 and not table.match(line)]
    assert wide == []


def test_render_never_parts_a_number_from_its_unit() -> None:
    lines = shown(analyse(global_kill().run())).splitlines()
    assert [line for line in lines if re.match(r"\s+(MiB|KiB|GiB|s|min|%|pages)\b", line)] == []


@pytest.mark.parametrize("count", [20, 21, 200])
def test_render_many_containers_do_not_flood(count: int) -> None:
    outcome = many(count)
    report = shown(outcome)
    listed = re.findall(r"^  c\d+ ", report, flags=re.M)
    assert len(listed) == 20
    assert listed[0].strip() == "c0"  # the tightest
    assert (f"... {count - 20} more: their peaks add up to {count - 20} MiB" in report) is (
        count > 20
    )


def test_render_trouble_is_shown_however_many_there_are() -> None:
    made = Maker()
    for n in range(30):
        made.container(f"c{n:02}", [(0, 1)], limits={"memory_max": pages(2)})
    made.event(5.0, "oom_kill", "c29", "memcg")
    assert by_risk(analyse(made.run()).containers)[0].name == "c29"


def test_render_foreign_names_reach_neither_pipe_nor_terminal_raw() -> None:
    outcome = analyse(Maker().container(EVIL, [(0, 10)]).event(9.0, "oom_kill", EVIL).run())
    plain, rich = shown(outcome), on_terminal(outcome)
    for report in (plain, rich):
        assert "\x1b[31m" not in report
        assert "\u202e" not in report
        assert "\\x1b" in report
        assert "[bold]x[/bold]" in report
    assert "\x1b" not in plain
    assert "\r" not in plain


def test_render_terminal_gets_tables_and_a_pipe_does_not() -> None:
    outcome = analyse(quiet().run())
    assert "┃" in on_terminal(outcome)
    assert "┃" not in shown(outcome)
    console = Console(file=io.StringIO(), force_terminal=False)
    text.render(outcome, console)
    assert console.file.getvalue() == shown(outcome)  # type: ignore[attr-defined]


def test_render_terminal_shows_what_the_pipe_shows() -> None:
    outcome = analyse(paused(assumed=True).run())
    rich = re.sub(r"\x1b\[[0-9;]*m|[│┃\s]", "", on_terminal(outcome))
    for line in (outcome.verdict, outcome.incidents[0].chain[0], outcome.incidents[0].title):
        assert re.sub(r"\s", "", line) in rich


def test_render_many_incidents_are_cut() -> None:
    made = Maker()
    for n in range(9):
        made.container(f"c{n}", [(0, 1)]).event(10.0 + n, "oom_kill", f"c{n}", "memcg")
    report = shown(analyse(made.run()))
    assert "Incidents (9)" in report
    assert "... and 4 more: capplan explain lists them" in report


def test_render_dma_without_trouble_is_not_worth_a_line() -> None:
    outcome = analyse(quiet().run())
    (zone,) = outcome.node.zones
    small = replace(zone, name="DMA", where="above high")
    node = replace(outcome.node, zones=(small, zone))
    assert "zone DMA " not in shown(replace(outcome, node=node))
    low = replace(outcome.node, zones=(replace(small, where="below min"), zone))
    assert "zone DMA " in shown(replace(outcome, node=low))


@given(st.text())
def test_clean_leaves_one_harmless_line(name: str) -> None:
    assert clean(name).isprintable() or " " in clean(name) or any(c.isspace() for c in clean(name))
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029]", clean(name))


@given(st.text(st.characters(categories=("L", "N", "P"))))
def test_clean_keeps_ordinary_names(name: str) -> None:
    assert clean(name) == name


def test_by_risk_ranks_kills_pauses_throttles_then_headroom() -> None:
    made = Maker()
    for name, limit in (("wide", 90), ("tight", 20), ("slow", 50), ("held", 50), ("dead", 50)):
        made.container(name, [(0, 10)], limits={"memory_max": pages(limit)})
    made.event(5.0, "paused", "held").event(6.0, "oom_kill", "dead", "memcg")
    made.totals[2] = replace(made.totals[2], throttle_s=9.0)
    ranked = [c.name for c in by_risk(analyse(made.run()).containers)]
    assert ranked == ["dead", "held", "slow", "tight", "wide"]
