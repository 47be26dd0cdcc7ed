"""Compose files become node files with the limits that Docker writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import capplan
from capplan.cli.main import cli
from capplan.errors import InputError
from capplan.sources.compose import draft_of, interpolate, read_services, read_stats
from capplan.sources.host import Host
from capplan.sources.write import write

MIB, GIB = 1 << 20, 1 << 30
COMPOSE = """
x-log: &log {logging: {driver: local}, mem_limit: 1g}
services:
  web:
    image: web:${TAG:-1}
    restart: unless-stopped
    mem_limit: 512m
    mem_reservation: 256m
    tmpfs: ["/tmp:size=64m,mode=1770"]
  db:
    <<: *log
    memswap_limit: 1536m
    shm_size: 128mb
    oom_score_adj: -500
  worker:
    restart: on-failure:3
    deploy: {replicas: 3, resources: {limits: {memory: "${LIMIT:-200M}"}}}
    oom_kill_disable: true
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "compose.yaml"
    path.write_text(COMPOSE, encoding="utf-8")
    return path


def _spec(file: Path, out: Path, host: Host) -> capplan.spec.NodeSpec:
    services, problems = read_services([file])
    node, *_ = write(draft_of(services, host, problems), out)
    return capplan.load(node)


def test_v2_limits(file: Path, tmp_path: Path) -> None:
    spec = _spec(file, tmp_path / "out", Host(8 * GIB, swap=2 * GIB))
    web, db, worker = (spec.containers[name] for name in ("web", "db", "worker"))
    assert web.written() == {
        "memory.max": 512 * MIB, "memory.low": 256 * MIB, "memory.swap.max": 512 * MIB,
    }  # fmt: skip
    assert db.written() == {"memory.max": GIB, "memory.swap.max": 512 * MIB}
    assert db.oom_score_adj == -500
    assert worker.written()["memory.max"] == 200 * MIB  # 1024-based, whatever the letter's case
    assert (worker.replicas, worker.restart, worker.restart_by) == (3, "OnFailure", "docker")
    assert {"tmpfs-tmp"} < set(spec.profiles["web"].processes["main"].regions)


def test_v1_limits(file: Path, tmp_path: Path) -> None:
    spec = _spec(file, tmp_path / "out", Host(8 * GIB, cgroup="v1", kernel="6.1", swap=GIB))
    assert spec.containers["web"].written() == {
        "memory.limit_in_bytes": 512 * MIB,
        "memory.memsw.limit_in_bytes": GIB,  # docker's default: twice the memory
        "memory.soft_limit_in_bytes": 256 * MIB,
        "memory.oom_control": False,
    }
    assert spec.containers["worker"].written()["memory.oom_control"] is True


def test_later_files_override_key_by_key(file: Path, tmp_path: Path) -> None:
    override = tmp_path / "override.yaml"
    override.write_text("services: {web: {mem_limit: 600m}}\n", encoding="utf-8")
    (web, *_), _ = read_services([file, override])
    assert (web.limit, web.reservation) == (600 * MIB, 256 * MIB)


def test_variables_come_from_the_dotenv(file: Path, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# limits\nLIMIT='300m'\n", encoding="utf-8")
    services, _ = read_services([file])
    assert services[2].limit == 300 * MIB


@pytest.mark.parametrize(
    ("text", "expected"),
    [("${A}", "1"), ("${X:-d}", "d"), ("${E:-d}", "d"), ("${E-d}", ""), ("${A:+y}", "y"),
     ("$A$$A", "1$A"), ("${X}", "")],
)  # fmt: skip
def test_interpolation(text: str, expected: str) -> None:
    assert interpolate(text, {"A": "1", "E": ""}) == expected


@given(st.text(alphabet="${}:-+?AX 1", max_size=20))
def test_interpolation_never_fails(text: str) -> None:
    interpolate(text, {"A": "1"})


def test_measured_usage_counts(file: Path, tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    stats.write_text(
        '{"Name": "shop-web-1", "MemUsage": "123.5MiB / 512MiB"}\n'
        '{"Name": "shop-worker-2", "MemUsage": "80MiB / 200MiB"}\n'
        '{"Name": "shop-worker-3", "MemUsage": "90MiB / 200MiB"}\n',
        encoding="utf-8",
    )
    usage = read_stats(stats)
    assert usage["shop-web-1"] == int(123.5 * MIB)
    services, problems = read_services([file])
    node, *_ = write(draft_of(services, Host(8 * GIB), problems, stats=usage), tmp_path / "out")
    spec = capplan.load(node)
    heap = spec.profiles["worker"].processes["main"].regions["heap"].size
    assert heap is not None
    assert heap.constant == 90 * MIB
    assert any("docker ignores oom_kill_disable" in str(p) for p in problems)


def test_what_is_no_compose_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\n", encoding="utf-8")
    with pytest.raises(InputError, match="there are no services: in it"):
        read_services([path])
    stats = tmp_path / "s.json"
    stats.write_text("{}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"s\.json:1: not a line of docker stats"):
        read_stats(stats)


def test_the_command_writes_a_node(file: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        cli, ["import", "compose", str(file), "--memory", "4Gi", "--out", str(tmp_path / "out")],
        prog_name="capplan",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "next: capplan simulate" in result.stdout


@pytest.mark.parametrize(
    ("name", "services", "limited"),
    [("opentelemetry-demo/compose.yaml", 20, 20), ("sock-shop/docker-compose.yml", 15, 0),
     ("awesome-compose/minecraft-compose.yaml", 1, 1)],
)  # fmt: skip
def test_real_compose_files(shared: Path, name: str, services: int, limited: int) -> None:
    found, _ = read_services([shared / "traces" / "manifests" / name])
    assert (len(found), sum(one.limit is not None for one in found)) == (services, limited)


def test_a_service_without_anything_is_told(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfservices:\r\n  a: {image: x}\r\n  b: null\r\n")
    services, problems = read_services([path])
    assert [service.name for service in services] == ["a"]
    assert "services.b: this is no service: left out" in str(problems[0])
