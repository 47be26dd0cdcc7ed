"""A live server: chunks, pauses, resumption, the token; and Debian's Prometheus where it is."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner

from capplan.cli.main import cli
from capplan.errors import InputError
from capplan.sources import prometheus_api
from capplan.sources.prometheus import CONTAINER, MACHINE, read_files
from capplan.sources.prometheus_api import TOKEN, Question, fetch
from capplan.sources.prometheus_node import Given, draft_of
from tests.sources.prometheus_data import GIB, MIB

METRICS = len((*CONTAINER, *MACHINE))
BEGIN, STEP = 1_700_000_000 // 30_000 * 30_000 + 29_700, 30  # ten steps before a chunk's edge
END = BEGIN + 20 * STEP


class Server(ThreadingHTTPServer):
    """Answers with a point at each step, after the failures it is told."""

    failures: list[int]
    asked: list[dict[str, list[str]]]
    tokens: set[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        self.server.tokens.add(self.headers.get("Authorization"))
        if self.server.failures:
            self.send_response(self.server.failures.pop())
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.server.asked.append(asked)
        begin, end, step = (int(asked[k][0]) for k in ("start", "end", "step"))
        labels = {"__name__": asked["query"][0].partition("{")[0], "pod": "a", "container": "c"}
        values = [[t, str(64 * MIB)] for t in range(begin, end + 1, step)]
        known = labels["__name__"] == "container_memory_rss"
        found = [{"metric": labels, "values": values}] if known else []
        body = json.dumps(
            {"status": "success", "data": {"resultType": "matrix", "result": found}}
        ).encode()  # fmt: skip
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv(TOKEN, raising=False)
    made = Server(("127.0.0.1", 0), Handler)
    made.failures, made.asked, made.tokens = [], [], set()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def _question(server: Server) -> Question:
    return Question(f"http://127.0.0.1:{server.server_port}", BEGIN, END, STEP, "shop", rate=1000)


def test_chunks_join_and_are_asked_for_once(server: Server, tmp_path: Path) -> None:
    files = fetch(_question(server), tmp_path)
    assert len(server.asked) == len(files) == 2 * METRICS
    rss = read_files(files).named("container_memory_rss")[0]
    assert list(rss.times) == [BEGIN + STEP * i for i in range(21)]
    assert server.asked[0]["query"] == ['container_memory_working_set_bytes{namespace="shop"}']
    files[3].unlink()
    assert fetch(_question(server), tmp_path) == files
    assert len(server.asked) == 2 * METRICS + 1


def test_the_command(server: Server, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{server.server_port}"
    arguments = ["--server", address, "--end", str(END), "--last", "10min", "--rate", "1000"]
    arguments += ["--memory", "8Gi", "--out", str(tmp_path)]
    done = CliRunner().invoke(cli, ["import", "prometheus", *arguments])
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "fetched").iterdir())) == 2 * METRICS
    assert (tmp_path / "traces/a.csv").read_text(encoding="utf-8").count("\n") >= 22
    both = CliRunner().invoke(cli, ["import", "prometheus", *arguments, str(tmp_path)])
    assert both.exit_code == 2
    assert "either FILES or --server" in both.stderr


def test_it_stops_and_goes_on(server: Server, tmp_path: Path) -> None:
    server.failures = [400]
    with pytest.raises(InputError, match="HTTP 400"):
        fetch(_question(server), tmp_path)
    assert len(fetch(_question(server), tmp_path)) == 2 * METRICS


def test_it_asks_again_when_busy(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(prometheus_api.time, "sleep", waits.append)
    server.failures = [503, 429]
    assert fetch(_question(server), tmp_path)
    assert {0.5, 1.0} <= set(waits)
    server.failures = [503] * 4
    with pytest.raises(InputError, match="HTTP 503"):
        fetch(_question(server), tmp_path / "other")


def test_the_token_goes_nowhere_else(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "abc")
    server.failures = [302]
    with pytest.raises(InputError, match="HTTP 302"):
        fetch(_question(server), tmp_path)
    assert server.tokens == {"Bearer abc"}
    assert all(b"abc" not in path.read_bytes() for path in tmp_path.iterdir())


def test_requests_are_paced(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(prometheus_api.time, "sleep", waits.append)
    monkeypatch.setattr(prometheus_api.time, "monotonic", lambda: 100.0)
    client = prometheus_api._Client(Question("http://localhost:1", 0, 1, 1, rate=4))
    for _ in range(3):
        client._pace()
    assert waits == [0.25, 0.5]


@pytest.mark.parametrize("address", ["ftp://a", "file:///etc/passwd", "http://u:p@a", "a:9090"])
def test_addresses_that_are_none(address: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--server"):
        fetch(Question(address, 0, 1, 1), tmp_path)


@pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="no Prometheus here"
)
def test_a_real_prometheus(tmp_path: Path) -> None:
    begin = int(time.time()) // 30 * 30 - 7200
    lines = [
        f'container_memory_rss{{namespace="shop",pod="web-1",container="web"}} '
        f"{(64 + i) * MIB} {begin + 30 * i}"
        for i in range(60)
    ]
    text = "# TYPE container_memory_rss gauge\n" + "\n".join(lines) + "\n# EOF\n"
    (tmp_path / "in.om").write_text(text, encoding="utf-8")
    data = tmp_path / "data"
    tool = ["promtool", "tsdb", "create-blocks-from", "openmetrics"]
    subprocess.run([*tool, str(tmp_path / "in.om"), str(data)], check=True, capture_output=True)
    (tmp_path / "p.yml").write_text("scrape_configs: []\n", encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    running = subprocess.Popen(
        ["prometheus", f"--config.file={tmp_path / 'p.yml'}", f"--storage.tsdb.path={data}",
         f"--web.listen-address={address}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _ready(address)
        question = Question(f"http://{address}", begin, begin + 59 * 30, 30, rate=1000)
        store = read_files(fetch(question, tmp_path / "fetched"))
    finally:
        running.terminate()
        running.wait(20)
    series = store.named("container_memory_rss")[0]
    assert list(series.values) == [(64 + i) * MIB for i in range(60)]
    assert draft_of(store, Given(memory=4 * GIB)).files["traces/web-1.csv"].count("\n") == 61


def _ready(address: str) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail("Prometheus did not start")
