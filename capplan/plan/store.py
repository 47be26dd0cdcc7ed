"""The run store: one SQLite file of finished points, keyed by what they are.

Rows are written in whole batches, one transaction each, in WAL mode: a process that is killed
at any moment leaves every batch either in or out, never half. A point's key holds the input,
the seed, the replicate and the code (:mod:`capplan.plan.point`), so a row that is there is right,
whoever computed it and when.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from capplan.errors import InputError

__all__ = ["Store"]

FORMAT = 1
BUSY_S = 60.0  # another process may be writing a batch
KEYS_AT_ONCE = 500  # SQLite takes at least 999 parameters

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    key TEXT PRIMARY KEY, row TEXT NOT NULL, wall_s REAL NOT NULL
) WITHOUT ROWID;
"""


class Store:
    """Finished rows by key.

    Parameters
    ----------
    path : Path or str
        The file, made when missing; ":memory:" keeps nothing.

    Raises
    ------
    InputError
        The file is no run store, or of a newer format.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        try:
            if path != ":memory:":
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            # autocommit: transactions are the ones written here
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            # a lost power supply may take the last batches along, never the file
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (str(FORMAT),))
            found = self._db.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
        except (sqlite3.DatabaseError, OSError) as error:
            raise InputError(f"{path}: cannot be used as a run store: {error}") from error
        if found[0] != str(FORMAT):
            raise InputError(f"{path}: a run store of format {found[0]}; this capplan writes 1")

    def put(self, rows: Iterable[tuple[str, str, float]]) -> None:
        """Add finished rows (key, JSON text, seconds) in one transaction."""
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO rows VALUES (?, ?, ?)", rows)

    def get(self, key: str) -> dict[str, Any] | None:
        """The row of a key; None: not computed yet."""
        found = self._db.execute("SELECT row FROM rows WHERE key = ?", (key,)).fetchone()
        return None if found is None else dict(json.loads(found[0]))

    def have(self, keys: Sequence[str]) -> dict[str, str]:
        """Those of ``keys`` that are there, with their row's text."""
        found: dict[str, str] = {}
        for begin in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[begin : begin + KEYS_AT_ONCE]
            marks = ",".join("?" * len(some))
            found.update(
                self._db.execute(f"SELECT key, row FROM rows WHERE key IN ({marks})", some)
            )
        return found

    def rows(self, keys: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Finished rows in the order of ``keys``, a few hundred in memory at a time."""
        waiting: list[str] = []
        for key in keys:
            waiting.append(key)
            if len(waiting) == KEYS_AT_ONCE:
                yield from self._in_order(waiting)
                waiting = []
        yield from self._in_order(waiting)

    def _in_order(self, keys: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        found = self.have(keys)
        for key in keys:
            if key in found:
                yield key, json.loads(found[key])

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM rows").fetchone()[0])

    def note(self, name: str, value: str) -> None:
        """Remember something about the runs."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def noted(self, name: str) -> str | None:
        """What was remembered."""
        found = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)

    def close(self) -> None:
        """Let go of the file; nothing is pending."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT; ROLLBACK on any error."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def __enter__(self) -> sqlite3.Connection:
        self.db.execute("BEGIN IMMEDIATE")
        return self.db

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.db.execute("COMMIT" if kind is None else "ROLLBACK")
