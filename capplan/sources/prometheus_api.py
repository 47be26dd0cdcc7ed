"""A live Prometheus: its HTTP API, in chunks of time that are kept and not asked for twice.

Each metric and chunk is one ``query_range``; the answer is written to a folder before the next is
asked for, under a name made of the question. Chunks lie on multiples of their length, so a second
run, later and after any interruption, finds those that were whole. Redirects are refused: they
would carry the token elsewhere.

Source: prometheus.io/docs/prometheus/latest/querying/api; a query may give 11,000 points for each
series (web/api/v1, maxPointsPerTs).
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capplan.errors import InputError
from capplan.sources.prometheus import CONTAINER, MACHINE, MOST_BYTES

__all__ = ["TOKEN", "Question", "fetch"]

TOKEN = "CAPPLAN_PROMETHEUS_TOKEN"  # the variable's name
CHUNK_POINTS = 1000  # of 11,000 that the server allows: short answers, little lost at a break
ATTEMPTS = 4
LONGEST_WAIT_S = 30.0
AGAIN = (429, 500, 502, 503, 504)
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Question:
    """What is asked of which server.

    Attributes
    ----------
    begin, end, step
        Unix times and the step between points [s].
    rate
        Requests in a second, at most.
    timeout
        For one request [s].
    """

    server: str
    begin: int
    end: int
    step: int
    namespace: str | None = None
    rate: float = 5.0
    timeout: float = 30.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None  # the answer is then an HTTPError of 3xx


def fetch(question: Question, folder: Path) -> list[Path]:
    """Ask for all metrics and keep the answers; return their files.

    Raises
    ------
    InputError
        No such server, an answer that is an error, or too large, or a bad address.
    """
    client = _Client(question)
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for query in _queries(question):
        for begin, end in _chunks(question):
            asked = {"query": query, "start": begin, "end": end, "step": question.step}
            text = json.dumps([question.server, asked], sort_keys=True)
            path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
            if not path.exists():
                _keep(path, client.ask(asked))
            found.append(path)
    return found


def _queries(question: Question) -> Iterator[str]:
    """One for each metric: a plain selector keeps its name."""
    for metric in (*CONTAINER, *MACHINE):
        wanted = []
        if metric in CONTAINER and question.namespace is not None:
            wanted.append(f"namespace={json.dumps(question.namespace)}")
        if metric.startswith("kube_pod_container_resource"):
            wanted.append('resource="memory"')
        yield metric + (f"{{{','.join(wanted)}}}" if wanted else "")


def _chunks(question: Question) -> Iterator[tuple[int, int]]:
    """Begin and end of each chunk; the points of two never coincide."""
    length = CHUNK_POINTS * question.step
    at = question.begin // question.step * question.step
    while at <= question.end:
        edge = (at // length + 1) * length
        yield at, min(edge - question.step, question.end)
        at = edge


def _keep(path: Path, data: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(data)
    os.replace(part, path)


class _Client:
    """Asks one server, not too often, and again where that may help."""

    def __init__(self, question: Question) -> None:
        parts = urllib.parse.urlsplit(question.server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError("--server: not an address\n    expected http://prometheus:9090")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise InputError(f"--server: no password or query in it\n    expected ${TOKEN}")
        self.question = question
        self.base = question.server.rstrip("/")
        token = os.environ.get(TOKEN, "")
        if not token.isprintable() or " " in token:
            raise InputError(f"${TOKEN} is no token")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if parts.hostname in LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))
        self.opener = urllib.request.build_opener(*handlers)
        self.next = 0.0

    def ask(self, asked: dict[str, Any]) -> bytes:
        """One query's answer, checked to be one."""
        url = f"{self.base}/api/v1/query_range?{urllib.parse.urlencode(asked)}"
        request = urllib.request.Request(url, headers=self.headers)
        for attempt in range(1, ATTEMPTS + 1):
            self._pace()
            try:
                return self._answer(request)
            except urllib.error.HTTPError as error:
                with error:
                    text = error.read(2000).decode("utf-8", "replace")
                if error.code not in AGAIN or attempt == ATTEMPTS:
                    raise InputError(f"{self.base}: HTTP {error.code}: {_said(text)}") from error
                self._wait(attempt, error.headers.get("Retry-After"))
            except (OSError, http.client.HTTPException) as error:
                if attempt == ATTEMPTS:
                    reason = getattr(error, "reason", None) or error
                    raise InputError(f"{self.base}: {reason}") from error
                self._wait(attempt, None)
        raise AssertionError

    def _answer(self, request: urllib.request.Request) -> bytes:
        with self.opener.open(request, timeout=self.question.timeout) as answer:
            data: bytes = answer.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise InputError(
                f"{self.base}: an answer of more than {MOST_BYTES >> 20} MiB\n"
                "    expected a larger --step, or --namespace"
            )
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.base}: the answer is not JSON: is it Prometheus?") from error
        if not isinstance(found, dict) or found.get("status") != "success":
            raise InputError(f"{self.base}: the answer is no success: is it Prometheus?")
        return data

    def _pace(self) -> None:
        now = time.monotonic()
        if self.next > now:
            time.sleep(self.next - now)
        self.next = max(now, self.next) + 1 / self.question.rate

    @staticmethod
    def _wait(attempt: int, told: str | None) -> None:
        wait = float(told) if told and told.isdecimal() else 0.25 * 2.0**attempt
        time.sleep(min(wait, LONGEST_WAIT_S))


def _said(text: str) -> str:
    """What the server says is wrong, on one line."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        text = str(json.loads(text)["error"])
    return "".join(c if c.isprintable() else " " for c in text)[:200]
