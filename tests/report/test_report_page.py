"""The page as text: whole, self-contained, escaped, the same for the same result."""

from __future__ import annotations

import base64
import hashlib
import pathlib
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import jinja2
import pytest

from capplan.plan.advice import Advice
from capplan.plan.demand import Demand, demands
from capplan.plan.outcome import analyse
from capplan.plan.outcome_model import Ranking
from capplan.report import deliver, html, markdown, page, record, results, sides, tables
from capplan.report.files import finite
from tests.plan.synthetic import Maker, memcg_kill, quiet
from tests.report.pages import SCRIPT, faults, hostile, many, rich, written


class Reader(HTMLParser):
    """What a browser would see: elements, ids, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.shown: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.shown.append(data)

    @property
    def text(self) -> str:
        """All that is read."""
        return " ".join(" ".join(self.shown).split())


def _page(maker: Maker, folder: pathlib.Path) -> str:
    return page.write(written(maker, folder))


def test_sections_come_in_the_order_of_a_reader(tmp_path: pathlib.Path) -> None:
    material = written(rich(), tmp_path)
    planned = {"web": Demand(200 << 20, 50.0), "db": Demand(300 << 20, 0.0)}
    recorded = record.Recorded(material.recorded.run, planned)
    text = Reader(page.write(material._replace(recorded=recorded))).text
    order = [
        "Does not fit:", "Raise web's memory.max", "2 containers, those at most risk first",
        "used, without page cache", "of 1 GiB stays available", "How it came about",
        "cgroup v2", "capplan simulate x.yaml",
    ]  # fmt: skip
    places = [text.index(said) for said in order]
    assert places == sorted(places)


def test_nothing_is_fetched(tmp_path: pathlib.Path) -> None:
    text = _page(rich(), tmp_path)
    for tag, attributes in Reader(text).tags:
        for name in ("src", "href", "xlink:href", "action", "data", "poster"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), (tag, name, value)
    assert "@import" not in text
    assert {found[0] for found in re.findall(r"url\(([^)]+)", text)} == {"#"}


def test_only_the_script_of_the_page_may_run(tmp_path: pathlib.Path) -> None:
    text = _page(quiet(), tmp_path)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text


@pytest.mark.parametrize("maker", [rich, quiet, hostile], ids=lambda made: made.__name__)
def test_ids_are_unique_and_what_is_referred_to_exists(
    maker: Callable[[], Maker], tmp_path: pathlib.Path
) -> None:
    text = _page(maker(), tmp_path)
    ids = [attributes["id"] for _, attributes in Reader(text).tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r"url\(#([^)]+)\)", text))
    for _, attributes in Reader(text).tags:
        for name in ("aria-labelledby", "aria-describedby"):
            wanted |= set((attributes.get(name) or "").split())
        for name in ("href", "xlink:href"):
            if (attributes.get(name) or "").startswith("#"):
                wanted.add((attributes[name] or "")[1:])
    assert wanted <= set(ids)


def test_a_foreign_name_is_text_everywhere(tmp_path: pathlib.Path) -> None:
    material = written(hostile(), tmp_path)
    for text in (page.write(material), sides.write(material, material)):
        assert SCRIPT not in text
        assert "\u202e" not in text
        assert "\x1b" not in text
        read = Reader(text)
        assert SCRIPT in read.text
        assert "{{ 7 * 7 }}" in read.text
        assert [tag for tag, _ in read.tags].count("script") == text.count('class="values"') + 1


def test_a_foreign_name_is_no_markup_in_markdown(tmp_path: pathlib.Path) -> None:
    material = written(hostile(), tmp_path)
    for text in (markdown.single(material), markdown.pair(material, material)):
        assert "<script>" not in text
        assert "&#60;script&#62;alert(1)" in text


def test_markdown_cells_hold_no_pipe_link_or_mention() -> None:
    said = tables.markdown("a|b @team [x](https://evil) `c`")
    assert not set("|@[]`") & set(said)
    assert "://" not in said


def test_csv_cells_are_no_formulas(tmp_path: pathlib.Path) -> None:
    made = Maker().container("=HYPERLINK(1)", [(0, 10)])
    assert "'=HYPERLINK(1)" in deliver.OfRun(written(made, tmp_path)).csv()


def test_page_is_the_same_from_memory_and_from_disk(tmp_path: pathlib.Path) -> None:
    run = rich().run()
    outcome = analyse(run)
    said = finite(results.summary(outcome, run, command="capplan simulate x.yaml"))
    recorded = record.Recorded(run, demands(run.scenario))
    direct = page.write(page.Material(said, outcome, recorded))
    assert direct == _page(rich(), tmp_path)


def test_two_hundred_containers_stay_readable_and_small(tmp_path: pathlib.Path) -> None:
    text = _page(many(), tmp_path)
    assert len(text.encode()) < 1_500_000
    read = Reader(text)
    assert [tag for tag, _ in read.tags].count("figure") <= 10
    assert "194 more: their peaks add up to" in read.text
    assert "194 more containers" in read.text  # the rest of the stack


def test_fitting_page_says_so(tmp_path: pathlib.Path) -> None:
    text = Reader(_page(quiet(), tmp_path)).text
    assert "Nothing has to change" in text
    assert "Nothing went wrong in this run." in text


def test_incidents_beyond_the_told_are_listed(tmp_path: pathlib.Path) -> None:
    made = Maker()
    for n in range(page.TOLD + 3):
        made.container(f"c{n}", [(0, 1)], limits={"memory_high": 256}, throttle_s=20.0)
    assert "3 more incidents" in Reader(_page(made, tmp_path)).text


def test_every_picture_says_its_finding(tmp_path: pathlib.Path) -> None:
    text = _page(rich(), tmp_path)
    descriptions = re.findall(r"<desc [^>]*>([^<]*)</desc>", text)
    titles = re.findall(r"<figcaption>([^<]*)</figcaption>", text)
    assert len(titles) == len(set(titles)) == 6
    assert len(descriptions) == 8  # memory and free blocks are drawn for wide and for narrow
    assert all(re.search(r"\d", said) for said in descriptions)


def test_fidelity_of_what_decided_is_shown(tmp_path: pathlib.Path) -> None:
    material = written(memcg_kill(), tmp_path)
    told = [each.text for each in material.outcome.fidelity]
    text = Reader(page.write(material)).text
    assert told
    assert all(each in text for each in told)


def test_what_is_not_modelled_is_what_the_support_page_says() -> None:
    support = pathlib.Path(__file__).resolve().parents[2] / "docs" / "support.md"
    said = support.read_text(encoding="utf-8").partition("## Not modelled\n")[2]
    joined = " ".join(said.replace("`", "").split())
    assert joined == " ".join(f"- {each};" for each in page.NOT_MODELLED)[:-1] + "."


def test_a_missing_name_in_a_template_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="report"):
        html.render("run.html.j2", page_title="", version="")


def test_json_data_cannot_end_its_element() -> None:
    said = str(html.json_data({"a": "</script><!--&\u2028"}))
    assert not set("<>&\u2028") & set(said)


# --- what to change ------------------------------------------------------------------------


def test_settings_become_the_lines_of_a_node_file() -> None:
    lines = page.node_file_lines(
        {
            "containers.web.memory.max": "512Mi",
            "containers.web.memory.high": "480Mi",
            "timeline.0.set.containers.web.memory.max": "512Mi",
            "cgroup.groups.kubepods.slice.memory.max": "14336Mi",
            "node.memory": "16Gi",
            "vm.swappiness": "10",
            "containers.web.replicas": "3",
        }
    )
    assert lines.splitlines() == [
        "containers:", "  web:", "    memory.max: 512Mi", "    memory.high: 480Mi",
        "# timeline, entry 1: set containers.web.memory.max to 512Mi there too",
        "cgroup:", "  groups:", "    kubepods.slice:", "      memory.max: 14336Mi",
        "node:", "  memory: 16Gi", "  sysctl:", "    vm.swappiness: 10",
        "containers:", "  web:", "    replicas: 3",
    ]  # fmt: skip


def test_host_lines_quote_foreign_names() -> None:
    (line,) = page.host_lines((("a; rm -rf b/memory.max", "4096"),), v1=False).splitlines()
    assert line == "echo 4096 > '/sys/fs/cgroup/a; rm -rf b/memory.max'"


def test_check_command_adds_the_settings(tmp_path: pathlib.Path) -> None:
    material = written(memcg_kill(), tmp_path)
    advice = (Advice("t", "b", {"containers.a b.memory.max": "1Mi"}),)
    said = page.check_command(material, advice)
    assert said == "capplan simulate x.yaml --set 'containers.a b.memory.max=1Mi'"


# --- two results ---------------------------------------------------------------------------


def test_comparison_says_what_changed(tmp_path: pathlib.Path) -> None:
    bad, good = written(memcg_kill(), tmp_path / "a"), written(quiet(), tmp_path / "b")
    a = {"containers": {"web": {"memory.max": 1 << 30}}, "gone": 1}
    b = {"containers": {"web": {"memory.max": 2 << 30}}}
    bad = bad._replace(summary=dict(bad.summary) | {"provenance": {"input": a}})
    good = good._replace(summary=dict(good.summary) | {"provenance": {"input": b}})
    assert sides.headline(bad, good) == "A does not fit, B fits"
    rows = [[cell.text for cell in row] for row in sides.inputs(bad, good).rows]
    assert rows == [
        ["containers.web.memory.max", "1 GiB (1073741824)", "2 GiB (2147483648)"],
        ["gone", "1", "not there"],
    ]
    befell = {row[0].text: [cell.text for cell in row[1:3]]
              for row in sides.containers(bad, good).rows}  # fmt: skip
    assert befell["web"] == ["killed at 1 min 20 s", "-"]


def test_comparison_of_a_result_with_itself_changes_nothing(tmp_path: pathlib.Path) -> None:
    material = written(quiet(), tmp_path)
    assert sides.inputs(material, material).rows == ()
    assert "The input is the same." in sides.write(material, material)


def test_comparison_gives_both_sides_ids_of_their_own(tmp_path: pathlib.Path) -> None:
    material = written(rich(), tmp_path)
    ids = [a["id"] for _, a in Reader(sides.write(material, material)).tags if a.get("id")]
    assert len(ids) == len(set(ids))


def test_an_agents_ranking_is_a_table_of_its_incident() -> None:
    ranking = Ranking("How the kubelet ranked the pods", ("pod", "usage"), (("leak", "99 MiB"),))
    incident = replace(analyse(memcg_kill().run()).incidents[0], ranking=ranking)
    shown = page.story(incident)["ranking"]
    assert (shown.caption, [c.title for c in shown.columns]) == (ranking.title, ["pod", "usage"])
    assert [[cell.text for cell in row] for row in shown.rows] == [["leak", "99 MiB"]]
    outcome = replace(analyse(memcg_kill().run()), incidents=(incident,))
    material = page.Material({}, outcome, record.Recorded(memcg_kill().run(), {}))
    assert "How the kubelet ranked the pods" in Reader(page.write(material)).text


def test_pages_of_a_run_are_valid_html_with_ids_of_their_own(tmp_path: pathlib.Path) -> None:
    first, second = written(rich(), tmp_path / "a"), written(hostile(), tmp_path / "b")
    assert faults(page.write(first)) == []
    assert faults(page.write(second)) == []
    assert faults(sides.write(first, second)) == []
    assert faults("<p><div id=a><i id=a>") != []  # it can fail
