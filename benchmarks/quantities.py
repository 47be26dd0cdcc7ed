"""Sizes of the four dialects, drawn at random, against the programs that define them.

Each dialect is read by what reads it in life: Kubernetes' quantities by kubectl, Docker's sizes by
the docker command (which sends them to an address where this script listens), systemd's by its
library's parse_size, the kernel's by writing them to a control group of its own (cgroup v1, root).
What is not here is left out. Prints how many agree; exit 1 where any does not.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import http.server
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from capplan.units import UNLIMITED, Dialect, UnitError, parse_k8s, parse_size

Answer = Fraction | None  # None: refused
Oracle = Callable[[Sequence[str]], list[Answer]]
SUFFIXES = {
    Dialect.K8S: ["", "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "n", "u", "m", "k", "M", "G", "T",
                  "P", "E", "e3", "E-2"],
    Dialect.DOCKER: ["", "b", "k", "m", "g", "t", "p", "kb", "MB", "GiB", "K", "M", "G", " g"],
    Dialect.SYSTEMD: ["", "", "B", "K", "M", "G", "T", "P", "E", " M", "G 12M", "K5", "M 3B"],
    Dialect.CGROUPFS: ["", "", "k", "m", "g", "K", "M", "G", "T", "P", "t", "e"],
}  # fmt: skip
WRONG = {
    Dialect.K8S: ["kb", "K", "mi", " Mi", "x"], Dialect.DOCKER: ["e", "x", "gg", "  m"],
    Dialect.SYSTEMD: ["k", "Ki", "KB", "M 5G", "G5G"], Dialect.CGROUPFS: ["x", "Ki", ".5M", " M"],
}  # fmt: skip
DIGITS = {"E": 0, "P": 3, "T": 6, "G": 9, "M": 12}  # that leave the sum below 2**63


def drawn(dialect: Dialect, count: int, seed: int) -> list[str]:
    """Texts of a dialect: whole numbers and fractions of all lengths; one in fifty is wrong."""
    rng = random.Random(f"{seed} {dialect.value}")
    made = []
    for _ in range(count):
        suffix = rng.choice((WRONG if rng.random() < 0.02 else SUFFIXES)[dialect])
        most = DIGITS.get(suffix.strip()[:1].upper(), 15)
        text = str(rng.randrange(10 ** rng.randint(1, most) if most else 7))
        if rng.random() < 0.1:
            if dialect is Dialect.CGROUPFS and rng.random() < 0.5:
                text = "0x" + text[: len(text) * 2 // 3]  # the same digits are more there
            else:
                text = "0" + text
        if rng.random() < 0.3 and dialect is not Dialect.CGROUPFS:
            text += "." + "".join(rng.choices("0123456789", k=rng.randint(1, 6)))
        made.append(text + suffix)
    return made


# --- what defines them ---------------------------------------------------------------------


def many(texts: Sequence[str], ask: Callable[[Sequence[str]], list[Answer] | None]) -> list[Answer]:
    """Ask for a hundred at once; a batch that is refused is halved until the culprit is found."""
    if len(texts) > 100:
        return [one for n in range(0, len(texts), 100) for one in many(texts[n : n + 100], ask)]
    found = ask(texts)
    if found is not None or not texts:
        return found or []
    if len(texts) == 1:
        return [None]
    half = len(texts) // 2
    return many(texts[:half], ask) + many(texts[half:], ask)


def kubectl(texts: Sequence[str]) -> list[Answer] | None:
    """The values of Kubernetes' own code: a quota that is made and not sent."""
    hard = ",".join(f"r{n}={text}" for n, text in enumerate(texts))
    run = subprocess.run(
        ["kubectl", "create", "quota", "q", f"--hard={hard}", "--dry-run=client", "-o", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if run.returncode != 0:
        return None
    found = json.loads(run.stdout)["spec"]["hard"]
    return [_canonical(found[f"r{n}"]) for n in range(len(texts))]


def _canonical(text: str) -> Fraction:
    """A canonical quantity: a whole number and one suffix."""
    digits = text.rstrip("KMGTPEikmnuy")
    if "e" in digits:
        whole, _, exponent = digits.partition("e")
        return Fraction(whole) * Fraction(10) ** int(exponent)
    suffix = text[len(digits) :]
    if suffix.endswith("i"):
        return Fraction(digits) * 1024 ** (" KMGTPE".index(suffix[0]))
    return Fraction(digits) * Fraction(1000) ** ("num kMGTPE".index(suffix or " ") - 3)


def systemd(library: Path) -> Oracle:
    """``parse_size(text, 1024)`` of systemd's own library."""
    call = ctypes.CDLL(str(library)).parse_size

    def ask(texts: Sequence[str]) -> list[Answer]:
        made: list[Answer] = []
        for text in texts:
            size = ctypes.c_uint64()
            fine = call(text.encode(), ctypes.c_uint64(1024), ctypes.byref(size)) == 0
            made.append(Fraction(size.value) if fine else None)
        return made

    return ask


@contextlib.contextmanager
def daemon() -> Iterator[tuple[str, list[dict[str, int]]]]:
    """An address where the docker command finds a daemon that keeps the rates it is asked for."""
    asked: list[dict[str, int]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(b"OK")

        def do_HEAD(self) -> None:
            self.answer(b"")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            rates = body["HostConfig"]["BlkioDeviceReadBps"]
            asked.append({rate["Path"]: rate["Rate"] for rate in rates})
            self.answer(b'{"Id": "a"}', 201)

        def answer(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Api-Version", "1.41")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def docker(address: str, asked: list[dict[str, int]]) -> Callable[..., list[Answer] | None]:
    """What the docker command asks its daemon for: rates are sizes to it, and may be many."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER")}

    def ask(texts: Sequence[str]) -> list[Answer] | None:
        asked.clear()
        rates = [f"--device-read-bps=/dev/{n}:{text}" for n, text in enumerate(texts)]
        command = ["docker", "-H", address, "create", *rates, "image"]
        subprocess.run(command, capture_output=True, check=False, env=env)
        if not asked:
            return None
        return [Fraction(asked[0][f"/dev/{n}"]) for n in range(len(texts))]

    return ask


@contextlib.contextmanager
def control_group() -> Iterator[Path | None]:
    """A group below this process's own, of cgroup v1; gone afterwards."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line.split(":", 2)[2] for line in lines if ":memory:" in line), None)
    group = None if own is None else Path(f"/sys/fs/cgroup/memory{own}/capplan-{os.getpid()}")
    try:
        if group is not None:
            group.mkdir()
    except OSError:
        group = None
    try:
        yield group
    finally:
        if group is not None:
            group.rmdir()


def kernel(group: Path) -> Oracle:
    """What the kernel makes of what is written to a limit: pages, rounded down."""
    file = group / "memory.limit_in_bytes"

    def ask(texts: Sequence[str]) -> list[Answer]:
        made: list[Answer] = []
        for text in texts:
            try:
                file.write_text(text)
                made.append(Fraction(int(file.read_text())))
            except OSError:
                made.append(None)
        return made

    return ask


# --- capplan's answer ----------------------------------------------------------------------


def own(text: str, dialect: Dialect) -> Answer:
    """What capplan reads."""
    try:
        if dialect is Dialect.K8S:
            return parse_k8s(text)
        size = parse_size(text, dialect)
    except UnitError:
        return None
    return None if size == UNLIMITED else Fraction(int(size))


def same(dialect: Dialect, mine: Answer, theirs: Answer) -> bool:
    """Whether two answers agree; where they have to be rounded, as the other does it."""
    if mine is None or theirs is None:
        return mine is theirs
    if dialect is Dialect.K8S:  # below a nanobyte it rounds up
        return 0 <= theirs - mine < Fraction(1, 10**9)
    if dialect is Dialect.CGROUPFS:
        return mine // 4096 * 4096 == theirs
    return mine == theirs


def oracles(stack: contextlib.ExitStack) -> Iterator[tuple[str, Dialect, Oracle]]:
    """Those that are here."""
    if shutil.which("kubectl"):
        yield "kubectl", Dialect.K8S, lambda texts: many(texts, kubectl)
    if shutil.which("docker"):
        asking = docker(*stack.enter_context(daemon()))
        yield "docker", Dialect.DOCKER, lambda texts: many(texts, asking)
    for library in Path("/usr/lib").glob("**/systemd/libsystemd-shared-*.so"):
        yield "systemd", Dialect.SYSTEMD, systemd(library)
    group = stack.enter_context(control_group())
    if group is not None:
        yield "the kernel", Dialect.CGROUPFS, kernel(group)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, ask, compare; the number of texts on which anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=25_000, help="of each dialect")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    differing = 0
    with contextlib.ExitStack() as stack:
        for name, dialect, oracle in oracles(stack):
            texts = drawn(dialect, args.count, args.seed)
            answers = oracle(texts)
            wrong = [
                (text, own(text, dialect), theirs)
                for text, theirs in zip(texts, answers, strict=True)
                if not same(dialect, own(text, dialect), theirs)
            ]
            refused = sum(theirs is None for theirs in answers)
            print(f"{dialect.value:10} {name:10} {args.count:6,} texts, {refused:5,} of them "
                  f"refused, {len(wrong)} differ")  # fmt: skip
            for text, mine, theirs in wrong[:8]:
                print(f"    {text!r}: {mine} here, {theirs} there")
            differing += len(wrong)
    return differing


if __name__ == "__main__":
    sys.exit(bool(main()))
