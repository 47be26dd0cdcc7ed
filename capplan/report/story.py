"""One incident's story as text (``capplan explain RESULT [EVENT]``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capplan.plan.outcome_model import Outcome


def tell(outcome: Outcome, event: str | None = None) -> str:
    """The story of one incident.

    Parameters
    ----------
    outcome : Outcome
        Of a run or read back from a result directory.
    event : str, optional
        The incident's number, or a kind or name that only one has. None: the only incident's
        story, or a list when there are several.
    """
    raise NotImplementedError
