"""systemd units, drop-ins and systemctl show become node files."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import capplan
from capplan.cli.main import cli
from capplan.errors import InputError
from capplan.sources.host import Host
from capplan.sources.systemd import Unit, read_units, slice_path
from capplan.sources.systemd_node import draft_of
from capplan.sources.write import write
from capplan.spec.loader import NodeSpec

MIB, GIB = 1 << 20, 1 << 30
HOST = Host(8 * GIB, swap=2 * GIB)
TREE = {
    "shop-web.service": "[Unit]\nDescription=x\nStartLimitIntervalSec=1min 30s\nStartLimitBurst=3\n"
    "[Service]\nExecStart=/bin/web \\\n  --fast\n# a comment\n; another\nMemoryMax=1G\n"
    "MemoryHigh=900M\nSlice=app-shop.slice\nOOMScoreAdjust=-200\nOOMPolicy=kill\n"
    "Restart=on-failure\nRestartSec=5\nManagedOOMPreference=avoid\n",
    "shop-web.service.d/50-limit.conf": "[Service]\nMemoryMax=512M\nMemoryHigh=\n",
    "shop-.service.d/50-limit.conf": "[Service]\nMemoryMax=2M\n",  # hidden by the nearer one
    "shop-.service.d/10-low.conf": "[Service]\nMemoryLow=10%\nMemoryMax=3M\n",
    "service.d/99-swap.conf": "[Service]\nMemorySwapMax=0\n",
    "worker@.service": "[Service]\nExecStart=/bin/w %i\nMemoryMax=64M\n",
    "worker@a.service.d/x.conf": "[Service]\nMemoryZSwapMax=8M\n",
    "app.slice": "[Slice]\nMemoryMax=4G\nManagedOOMMemoryPressure=kill\n"
    "ManagedOOMMemoryPressureLimit=50%\nDefaultMemoryLow=32M\n",
    "app-shop.slice": "[Slice]\nMemoryHigh=3G\n",
    "app-db.service": "[Service]\nExecStart=/bin/db\nSlice=app.slice\nMemoryMax=infinity\n",
    "once.service": "[Service]\nType=oneshot\nExecStart=/bin/true\n",
    "multi-user.target.wants/shop-web.service": "ignored: a link in a real tree\n",
}


def _tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def _spec(paths: list[Path], out: Path, host: Host = HOST) -> NodeSpec:
    units, problems = read_units(paths)
    return capplan.load(write(draft_of(units, host, problems), out)[0])


@pytest.mark.parametrize(
    ("name", "path"),
    [("app.slice", "app.slice"), ("app-db.slice", "app.slice/app-db.slice"), ("-.slice", ""),
     ("a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice")],
)  # fmt: skip
def test_dashes_are_levels(name: str, path: str) -> None:
    assert slice_path(name) == path


def test_units_with_their_drop_ins(tmp_path: Path) -> None:
    spec = _spec([_tree(tmp_path / "etc", TREE)], tmp_path / "out")
    assert set(spec.containers) == {"shop-web.service", "worker@a.service", "app-db.service"}
    web = spec.containers["shop-web.service"]
    assert web.parent == "app.slice/app-shop.slice"
    assert web.written() == {
        "memory.max": 512 * MIB,  # the drop-in's; MemoryHigh= took its own back
        "memory.low": 8 * GIB // 10 // 4096 * 4096,
        "memory.swap.max": 0,
        "memory.oom.group": True,
    }
    assert (web.oom_score_adj, web.managed_oom_preference) == (-200, "avoid")
    assert (web.restart, web.restart_by, web.restart_sec) == ("OnFailure", "systemd", 5 * 10**9)
    assert (web.start_limit_interval_sec, web.start_limit_burst) == (90 * 10**9, 3)
    worker = spec.containers["worker@a.service"]
    assert worker.parent == "system.slice/system-worker.slice"
    assert worker.written() == {
        "memory.max": 64 * MIB, "memory.zswap.max": 8 * MIB, "memory.swap.max": 0,
    }  # fmt: skip
    # a slice's DefaultMemoryLow= is for those in it that say nothing
    assert spec.containers["app-db.service"].written()["memory.low"] == 32 * MIB
    app = spec.cgroup.groups["app.slice"]
    assert app.written() == {"memory.max": 4 * GIB}
    assert (app.managed_oom_memory_pressure, app.managed_oom_memory_pressure_limit) == ("kill", 0.5)
    assert spec.cgroup.groups["app.slice/app-shop.slice"].written() == {"memory.high": 3 * GIB}


def test_etc_comes_before_usr_and_masks_it(tmp_path: Path) -> None:
    usr = _tree(tmp_path / "usr/lib/systemd/system", {
        "a.service": "[Service]\nExecStart=/a\nMemoryMax=1G\n", "b.service": "[Service]\n",
        "c.service": "[Service]\nMemoryMax=1G\n",
        "c.service.d/1.conf": "[Service]\nMemoryMax=2G\n",
    })  # fmt: skip
    etc = _tree(tmp_path / "etc/systemd/system", {
        "a.service": "[Service]\nExecStart=/a\nMemoryMax=3G\n",
        "c.service.d/1.conf": "[Service]\nMemoryMax=4G\n",
    })  # fmt: skip
    (etc / "b.service").symlink_to("/dev/null")
    (usr / "alias.service").symlink_to("a.service")
    units, problems = read_units([etc, usr])
    assert {unit.name: unit.settings["MemoryMax"] for unit in units} == {
        "a.service": "3G", "c.service": "4G",
    }  # fmt: skip
    told = "\n".join(map(str, problems))
    assert "b.service is masked: left out" in told
    assert "alias.service is another name of a.service: left out" in told


SHOW = """\
Id=nginx.service
ActiveState=active
Slice=system.slice
MemoryCurrent=52428800
MemoryMin=0
MemoryLow=0
MemoryHigh=infinity
MemoryMax=134217728
MemorySwapMax=infinity
OOMScoreAdjust=0
OOMPolicy=stop
ManagedOOMSwap=auto
ManagedOOMMemoryPressureLimit=0
Restart=always
RestartUSec=100ms
StartLimitIntervalUSec=10s
StartLimitBurst=5

Id=dead.service
ActiveState=inactive
MemoryCurrent=[not set]

Id=system.slice
ActiveState=active
MemoryCurrent=18446744073709551615
MemoryLow=1073741824
ManagedOOMMemoryPressureLimit=2147483647
"""


def test_systemctl_show_tells_what_runs_and_what_it_uses(tmp_path: Path) -> None:
    path = tmp_path / "show.txt"
    path.write_text(SHOW, encoding="utf-8")
    spec = _spec([path], tmp_path / "out")
    assert list(spec.containers) == ["nginx.service"]
    nginx = spec.containers["nginx.service"]
    assert nginx.written() == {"memory.max": 128 * MIB}
    assert (nginx.restart, nginx.restart_sec) == ("Always", 10**8)
    heap = spec.profiles["nginx.service"].processes["main"].regions["heap"]
    assert heap.size is not None
    assert heap.size.constant == 50 * MIB
    group = spec.cgroup.groups["system.slice"]
    assert group.written() == {"memory.low": GIB}
    assert group.managed_oom_memory_pressure_limit == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [("MemoryMax=12Q", "MemoryMax='12Q' is not a memory size: left out"),
     ("MemoryMax=0", "MemoryMax=0 is out of range: systemd ignores it"),
     ("OOMScoreAdjust=5000", "OOMScoreAdjust='5000' is no score: left out"),
     ("RestartSec=soon\nRestart=always", "RestartSec='soon' is not a duration: left out"),
     ("nonsense", "'nonsense' is no setting: left out")],
)  # fmt: skip
def test_what_systemd_would_ignore_is_told(tmp_path: Path, text: str, message: str) -> None:
    tree = _tree(tmp_path / "u", {"a.service": f"[Service]\nExecStart=/a\n{text}\n"})
    units, problems = read_units([tree])
    draft_of(units, HOST, problems)
    assert any(message in str(problem) for problem in problems), problems


def test_v1_has_only_the_limit(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "u", {"a.service": "[Service]\nMemoryMax=1G\nMemoryLow=1M\n"})
    spec = _spec([tree], tmp_path / "out", Host(8 * GIB, cgroup="v1"))
    assert spec.containers["a.service"].written() == {"memory.limit_in_bytes": GIB}


def test_the_command_and_its_refusal(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "u", {"once.service": TREE["once.service"]})
    args = ["import", "systemd", str(tree), "--memory", "4Gi", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, args, prog_name="capplan")
    assert result.exit_code == 2
    assert "once.service is of Type=oneshot: it runs to its end: left out" in result.stderr
    _tree(tree, {"b.service": "[Service]\nExecStart=/b\n"})
    assert CliRunner().invoke(cli, args, prog_name="capplan").exit_code == 0
    with pytest.raises(InputError, match="there is no unit in these files"):
        read_units([tmp_path / "out" / "node.yaml"])


_TEXT = st.text(alphabet="[]=\\#;% \nServiceMaxMemory0123456789GK-infity", max_size=80)


@given(_TEXT)
def test_no_unit_makes_a_traceback(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.service"
    path.write_text(f"[Service]\n{text}", encoding="utf-8")
    units, problems = read_units([path])
    draft_of(units, HOST, problems)


def test_specifiers_and_default_slices() -> None:
    assert Unit("a-b@x.service").slice == "system-a-b.slice"
    assert Unit("a.service").slice == "system.slice"
    assert Unit("a-b.slice").slice == "a.slice"
