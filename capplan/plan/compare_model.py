"""The shapes of a comparison: plain frozen records that go to JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capplan.plan.burst import Burst
    from capplan.plan.risk import Risk
    from capplan.spec.marks import Marks

__all__ = ["Against", "Comparison", "Setting"]


@dataclass(frozen=True)
class Against:
    """A setting against the first one, replicate by replicate.

    Attributes
    ----------
    fits_only_here, fits_only_there : int
        Replicates without incident under one of the two only.
    p_value : float
        Probability of a split at least as uneven, were the two equally good (two-sided sign
        test, McNemar's exact test).
    """

    fits_only_here: int
    fits_only_there: int
    p_value: float


@dataclass(frozen=True)
class Setting:
    """One column of a comparison.

    Attributes
    ----------
    label, settings : str, dict
        What was set; the label is its name where it has one.
    name : str
        What the settings are called (``krr``); empty: nothing but what they are.
    error : str
        Why it could not be run; the rest is then None.
    marks : Marks, optional
        The watermarks' sums over all zones, as the engine set them. [bytes]
    risk : Risk, optional
        Probabilities and spreads over the replicates.
    against : Against, optional
        Compared with the first setting (None for the first).
    burst : Burst, optional
        What the node absorbs at its tightest moment.
    warnings : tuple of str
        What its input is warned of, translated keys included.
    """

    label: str
    settings: dict[str, str]
    error: str = ""
    marks: Marks | None = None
    risk: Risk | None = None
    against: Against | None = None
    burst: Burst | None = None
    warnings: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Comparison:
    """Settings side by side.

    Attributes
    ----------
    pick : int, optional
        The setting that one would take; None: none could be run.
    verdict : str
        Which, and why.
    """

    verdict: str
    pick: int | None
    name: str
    replicates: int
    confidence: float
    settings: tuple[Setting, ...]
    keys: tuple[str, ...]

    @property
    def fits(self) -> bool | None:
        """Whether the picked setting fits its gate."""
        chosen = None if self.pick is None else self.settings[self.pick].risk
        return None if chosen is None else chosen.fits

    def to_dict(self) -> dict[str, Any]:
        """Plain data, verdict first."""
        return {"fits": self.fits, **asdict(self)}
