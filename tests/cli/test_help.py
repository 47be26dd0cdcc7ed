"""``capplan help``: codes, commands and keys."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from capplan.cli.main import cli
from capplan.spec import reference, schema
from capplan.spec.node import NodeFile


def _help(topic: str) -> tuple[int, str]:
    found = CliRunner().invoke(cli, ["help", topic])
    return found.exit_code, found.output


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("C012", "C012  Not a memory size."),
        ("explain", "Usage: "),
        ("keys", "node: keys: capplan help node\n"),
        ("node", "cpus: a number from 1 to 8192; [default: 4]"),
        (
            "node.system",
            "kernel: a size in Kubernetes' notation, such as 768Mi; [default: 300 MiB]",
        ),
        ("containers.memory.high", "Above it tasks are throttled"),
        ("containers.web.memory.high", "Above it tasks are throttled"),
        ("kubelet", "or 1h30m; [default: 5 min]"),
        ("profile.processes.regions", "kind: anon | file | shmem | kernel; [default: anon]"),
        ("containers.web.profile.processes.a.phases.burst", "How much each burst takes."),
        ("sweepfile", "grid | paired | latin"),
    ],
)
def test_help_of_a_topic(topic: str, said: str) -> None:
    code, output = _help(topic)
    assert (code, said in output) == (0, True), output


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("node.zram", "nor a key. (capplan help keys)"),
        ("node.swp", "Did you mean 'swap'?"),
        ("simulat", "Did you mean 'simulate'?"),
        ("...", "nor a key."),
    ],
)
def test_no_topic(topic: str, said: str) -> None:
    code, output = _help(topic)
    assert (code, said in output) == (2, True), output


def test_every_key_of_a_node_file_can_be_asked_for() -> None:
    asked = [("", key) for key in schema.keys((NodeFile,))]
    seen = 0
    while asked:
        stem, name = asked.pop()
        path = f"{stem}.{name}" if stem else name
        found, _ = reference.look_up(path)
        assert found is not None, path
        seen += 1
        if path.count(".") < 2 and found.path == path and len(found.keys) > 1:
            asked += [(path, key.name) for key in found.keys if "." not in key.name]
    assert seen > 100
