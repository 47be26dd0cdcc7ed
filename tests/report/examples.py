"""The reports of ``reports/examples``: drawn again by ``make examples``.

No hour, host or path is in them. What a page says is compared in CI; how matplotlib of some
version writes its curves is not.
"""

from __future__ import annotations

import pathlib
import re
import sys
import tempfile

import capplan
from capplan.report import deliver, draw, page
from capplan.report.files import replace_file
from capplan.report.page import Material

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "reports" / "examples"
PICTURE = "swap-zswap-memory.png"

# name of the page: node file and settings
SINGLE: dict[str, tuple[str, dict[str, str]]] = {
    "worker": ("worker", {}),
    "docker-v1": ("docker-v1", {}),
    "swap-zswap": ("swap-zswap", {}),
}
# name of the page: node file, settings of B
PAIRS: dict[str, tuple[str, dict[str, str]]] = {
    "swap-zswap-higher-limit": (
        "swap-zswap",
        {"containers.cache.memory.max": "1936Mi", "containers.cache.memory.high": "1840Mi"},
    ),
}

_DRAWN = re.compile(r"(<svg\b[^>]*>)(<title.*?</desc>).*?(?=</svg>)", re.DOTALL)


def _result(node: str, settings: dict[str, str]) -> Material:
    path = f"profiles/nodes/{node}.yaml"
    simulation = capplan.simulate(capplan.load(ROOT / path, settings=settings))
    sets = "".join(f" --set {key}={value}" for key, value in settings.items())
    with tempfile.TemporaryDirectory() as folder:
        simulation.write(folder, command=f"capplan simulate {path}{sets}", picture=False)
        return deliver.material(pathlib.Path(folder))


def pages() -> dict[str, str]:
    """Every page by its file name."""
    made = {name: _result(*of) for name, of in SINGLE.items()}
    texts = {f"{name}.html": deliver.OfRun(made[name]).html() for name in SINGLE}
    texts["swap-zswap.md"] = deliver.OfRun(made["swap-zswap"]).md()
    for name, (node, settings) in PAIRS.items():
        texts[f"{name}.html"] = deliver.OfRun(made[node], _result(node, settings)).html()
    return texts


def said(text: str) -> str:
    """A page without the curves of its pictures; their titles and descriptions stay."""
    return _DRAWN.sub(r"\1\2", text)


def main() -> None:
    """Write all of them, and the picture that the README shows."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        replace_file(FOLDER / name, text.encode())
    node = _result(*SINGLE["swap-zswap"])
    (memory,) = [chart for chart in page.charts(node) if chart.slug == "memory"]
    replace_file(FOLDER / PICTURE, draw.save(memory, "png"))
    sys.stdout.write(f"{len(list(FOLDER.iterdir()))} files in {FOLDER}\n")


if __name__ == "__main__":
    main()
