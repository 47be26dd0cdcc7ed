"""The page in a real browser: opens from disk, asks for nothing, works, prints, is accessible."""

from __future__ import annotations

import importlib.util
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from capplan.report import odds, page, sides
from tests.report import summaries
from tests.report.pages import SCRIPT, hostile, many, rich, written

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
ODDS = {
    "risk": summaries.risk(SCRIPT), "sweep": summaries.sweep(80, 30, 2, 0),
    "comparison": summaries.compare(), "headroom": summaries.headroom(),
    "recommendation": summaries.recommendation(), "check": summaries.check(),
}  # fmt: skip
# texts of pictures that are shown but lie outside their picture
CUT = """() => [...document.querySelectorAll(".drawing svg")]
    .filter((svg) => svg.getClientRects().length)
    .flatMap((svg) => {
        const whole = svg.getBoundingClientRect();
        const outside = (box) => box.width && (box.left < whole.left - 1
            || box.right > whole.right + 12 || box.bottom > whole.bottom + 1);
        return [...svg.querySelectorAll("text")]
            .filter((text) => outside(text.getBoundingClientRect()))
            .map((text) => text.textContent);
    })"""
RUNS = ("rich", "hostile", "many", "sides")
WIDTHS = {"phone": 360, "tablet": 820, "desktop": 1440}

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium (apt-get install chromium)"),
    pytest.mark.skipif(
        importlib.util.find_spec("axe_playwright_python") is None,
        reason="no playwright and axe (pip install -e '.[dev]')",
    ),
]


class Opened:
    """A page as the browser shows it, with what it said and asked for."""

    def __init__(self, browser: Any, path: pathlib.Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.tab = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(path.as_uri())

    def texts(self, selector: str) -> list[str]:
        """Texts of all elements that are shown."""
        found = self.tab.locator(selector)
        return [(each.text_content() or "").strip() for each in found.all() if each.is_visible()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """Pages by name."""
    folder = tmp_path_factory.mktemp("pages")
    made = {name: written(maker(), folder / name) for name, maker in
            (("rich", rich), ("hostile", hostile), ("many", many))}  # fmt: skip
    texts = {name: page.write(material) for name, material in made.items()}
    texts["sides"] = sides.write(made["rich"], made["hostile"])
    texts |= {name: odds.write(summary) for name, summary in ODDS.items()}
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.mark.parametrize("name", [*RUNS, *ODDS])
def test_opens_from_disk_and_asks_for_nothing(
    browser: Any, files: dict[str, pathlib.Path], name: str
) -> None:
    opened = Opened(browser, files[name])
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [files[name].as_uri()]


def test_a_script_as_a_name_is_shown_and_not_run(
    browser: Any, files: dict[str, pathlib.Path]
) -> None:
    opened = Opened(browser, files["hostile"])
    opened.tab.wait_for_timeout(100)
    assert opened.said == []
    assert SCRIPT in opened.texts("#containers-table tbody th")
    # and were it there as markup, the policy would stop it
    blocked = opened.tab.evaluate(
        """() => new Promise((done) => {
            document.addEventListener("securitypolicyviolation", (e) => done(e.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
        })"""
    )
    assert blocked.startswith("script-src")
    assert opened.tab.evaluate("window.ran") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_pictures_are_seen_at_every_width(
    browser: Any, files: dict[str, pathlib.Path], width: int, scheme: str
) -> None:
    view = {"width": width, "height": 900}
    opened = Opened(browser, files["rich"], viewport=view, color_scheme=scheme)
    assert opened.tab.evaluate("document.documentElement.scrollWidth") <= width
    figures = opened.tab.locator("figure")
    assert figures.count() == 6
    for figure in figures.all():
        shown = [d for d in figure.locator(".drawing").all() if d.is_visible()]
        (box,) = [d.bounding_box() for d in shown]
        assert box["width"] >= min(width - 60, 300)
        assert box["height"] > 100
        # what is drawn in ink can be told from the paper
        ink, paper = figure.evaluate(
            """(f) => [getComputedStyle(f.querySelector("svg text")).fill,
                       getComputedStyle(document.body).backgroundColor]"""
        )
        assert ink != paper
        assert (sum(_rgb(paper)) > 600) == (scheme == "light")


def _rgb(text: str) -> list[int]:
    return [int(part) for part in text.strip("rgb()").split(",")]


def test_tables_sort_by_number_and_by_name(browser: Any, files: dict[str, pathlib.Path]) -> None:
    opened = Opened(browser, files["many"])
    names = "#containers-table tbody th"
    head = opened.tab.locator("#containers-table thead th")
    peak = head.filter(has_text="peak")
    peak.locator("button").click()
    assert peak.get_attribute("aria-sort") == "descending"
    assert opened.texts(names)[:2] == ["web-199", "web-198"]
    peak.locator("button").press("Enter")
    assert peak.get_attribute("aria-sort") == "ascending"
    assert opened.texts(names)[:2] == ["web-000", "web-001"]
    head.first.locator("button").click()
    head.first.locator("button").click()
    assert head.first.get_attribute("aria-sort") == "descending"
    assert peak.get_attribute("aria-sort") is None
    assert opened.texts(names)[0] == "web-199"


def test_tables_show_the_top_and_filter(browser: Any, files: dict[str, pathlib.Path]) -> None:
    opened = Opened(browser, files["many"])
    names = "#containers-table tbody th"
    assert len(opened.texts(names)) == 20
    opened.tab.get_by_role("button", name="show all 200").click()
    assert len(opened.texts(names)) == 200
    opened.tab.get_by_label("Find a container").fill("web-01")
    assert sorted(opened.texts(names)) == [f"web-01{n}" for n in range(10)]
    assert "10 of 200 match" in opened.texts(".tools [role=status]")


def test_without_script_the_page_is_whole(browser: Any, files: dict[str, pathlib.Path]) -> None:
    opened = Opened(browser, files["many"], java_script_enabled=False)
    assert opened.tab.locator("#containers-table tbody tr").count() == 200
    assert opened.tab.locator("figure svg").first.is_visible()


def test_pointer_shows_values_and_drag_zooms(browser: Any, files: dict[str, pathlib.Path]) -> None:
    opened = Opened(browser, files["rich"], viewport={"width": 1200, "height": 900})
    svg = opened.tab.locator("#memory .drawing.wide svg")
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    middle = box["y"] + box["height"] / 2
    # the axes begin at 58 and end at 910 of 920
    at = {share: box["x"] + box["width"] * (58 + share * 852) / 920 for share in (0.2, 0.5, 0.7)}
    opened.tab.mouse.move(at[0.5], middle)
    (shown,) = opened.texts("#memory .readout")
    assert "50 s" in shown
    assert "web" in shown
    opened.tab.mouse.move(at[0.2], middle)
    opened.tab.mouse.down()
    opened.tab.mouse.move(at[0.7], middle, steps=4)
    opened.tab.mouse.up()
    ticks = opened.texts("#memory .drawing.wide .ticks text")
    assert 19 <= float(ticks[0]) <= 31
    assert 60 <= float(ticks[-1]) <= 71
    others = opened.texts("#pressure .ticks text")  # all pictures show the same time
    assert 19 <= float(others[0]) <= 31
    opened.tab.get_by_role("button", name="show the whole run").first.click()
    assert opened.texts("#memory .drawing.wide .ticks text") == []


def test_values_can_be_read_with_the_keyboard(browser: Any, files: dict[str, pathlib.Path]) -> None:
    opened = Opened(browser, files["rich"], viewport={"width": 1200, "height": 900})
    opened.tab.get_by_label("values at").last.focus()
    opened.tab.keyboard.press("End")
    assert "100 s" in opened.texts("#memory .readout")[0]
    assert "web 0 MiB" in opened.tab.locator(".heard").last.text_content()
    opened.tab.keyboard.press("Tab")
    assert opened.texts("#memory .readout") == []


def test_one_setting_of_a_comparison_at_a_time(
    browser: Any, files: dict[str, pathlib.Path]
) -> None:
    opened = Opened(browser, files["sides"])
    sides_shown = "section[data-setting] h3"
    assert opened.texts(sides_shown) == ["A", "B"]
    opened.tab.get_by_label("Show:").select_option(label="B")
    assert opened.texts(sides_shown) == ["B"]


def test_settings_are_chosen_with_the_keyboard(
    browser: Any, files: dict[str, pathlib.Path]
) -> None:
    opened = Opened(browser, files["comparison"])
    shown = "section[data-setting] h3"
    assert opened.texts(shown) == ["vm.min_free_kbytes=67584 (the pick)"]
    choice = opened.tab.get_by_label("Show:")
    choice.focus()
    opened.tab.keyboard.press("ArrowDown")
    assert opened.texts(shown) == ["vm.min_free_kbytes=262144"]
    opened.tab.keyboard.press("Home")  # all of them
    assert len(opened.texts(shown)) == 3
    opened.tab.keyboard.press("End")
    opened.tab.emulate_media(media="print")  # what was chosen is printed
    assert opened.texts(shown) == ["vm.min_free_kbytes=262144"]


def test_without_script_all_settings_are_shown(
    browser: Any, files: dict[str, pathlib.Path]
) -> None:
    opened = Opened(browser, files["comparison"], java_script_enabled=False)
    assert len(opened.texts("section[data-setting] h3")) == 3
    assert opened.tab.get_by_label("Show:").count() == 0


@pytest.mark.parametrize("name", [*RUNS, *ODDS])
def test_nothing_is_wider_than_a_phone_and_no_text_is_cut(
    browser: Any, files: dict[str, pathlib.Path], name: str
) -> None:
    opened = Opened(browser, files[name], viewport={"width": 360, "height": 780})
    assert opened.tab.evaluate("document.documentElement.scrollWidth") <= 360
    cut = opened.tab.evaluate(CUT)
    assert cut == []


def test_prints_to_a_few_pages(browser: Any, files: dict[str, pathlib.Path]) -> None:
    opened = Opened(browser, files["rich"])
    printed = opened.tab.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert 2 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") <= 10
    opened.tab.emulate_media(media="print", color_scheme="dark")
    paper = opened.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(_rgb(paper)) > 600  # dark pages print on white


@pytest.mark.parametrize("name", [*RUNS, *ODDS])
def test_accessibility_checker_finds_nothing(
    browser: Any, files: dict[str, pathlib.Path], name: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    opened = Opened(browser, files[name], bypass_csp=True)
    for scheme in ("light", "dark"):
        opened.tab.emulate_media(color_scheme=scheme)
        found = Axe().run(opened.tab).response["violations"]
        seen = [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found]
        assert seen == [], scheme


def test_accessibility_checker_sees_a_fault(browser: Any, files: dict[str, pathlib.Path]) -> None:
    from axe_playwright_python.sync_playwright import Axe

    opened = Opened(browser, files["rich"], bypass_csp=True)
    opened.tab.evaluate("document.querySelector('nav').removeAttribute('aria-label')")
    opened.tab.evaluate("document.body.append(document.createElement('button'))")
    found = Axe().run(opened.tab).response["violations"]
    assert "button-name" in {rule["id"] for rule in found}
