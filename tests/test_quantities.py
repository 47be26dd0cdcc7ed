"""The four dialects against what defines them.

Texts are made of their parts, so that what they mean is known without reading them: by Kubernetes'
documentation in decimal arithmetic, by go-units in doubles as Go has them, by the kernel's memparse
in shifts; systemd's is asked of its own library, where one is installed. benchmarks/quantities.py
asks all four of the real programs.
"""

from __future__ import annotations

import ctypes
from decimal import ROUND_CEILING, Decimal, localcontext
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from capplan.units import MAX_BYTES, Dialect, UnitError, parse_size

LIBRARIES = sorted(Path("/usr/lib").glob("**/systemd/libsystemd-shared-*.so"))
DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
BINARY = {suffix: 10 * n for n, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)}
WHOLE = st.integers(0, 10**9)
BEHIND = st.text(alphabet="0123456789", max_size=6)


def _number(whole: int, behind: str) -> str:
    return f"{whole}.{behind}" if behind else str(whole)


def _agrees(text: str, dialect: Dialect, expected: int) -> None:
    if expected > MAX_BYTES:
        with pytest.raises(UnitError, match="more than a counter holds"):
            parse_size(text, dialect)
        return
    assert parse_size(text, dialect) == expected


@given(WHOLE, BEHIND, st.sampled_from([*DECIMAL, *BINARY]))
def test_kubernetes(whole: int, behind: str, suffix: str) -> None:
    with localcontext(prec=60):
        unit = Decimal(2) ** BINARY[suffix] if suffix in BINARY else Decimal(10) ** DECIMAL[suffix]
        value = (Decimal(_number(whole, behind)) * unit).to_integral_value(ROUND_CEILING)
    _agrees(f"{_number(whole, behind)}{suffix}", Dialect.K8S, int(value))


@given(
    WHOLE, BEHIND, st.sampled_from(["", "k", "m", "g", "t", "p"]), st.sampled_from(["", "b", "ib"]),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_docker(whole: int, behind: str, letter: str, tail: str, upper: bool, apart: bool) -> None:
    suffix = letter + (tail if letter else tail.replace("i", ""))
    text = f"{_number(whole, behind)}{' ' * apart}{suffix.upper() if upper else suffix}"
    value = int(float(_number(whole, behind)) * float(1 << 10 * " kmgtp".index(letter or " ")))
    if not (apart and not suffix):
        _agrees(text, Dialect.DOCKER, value)


@given(st.integers(0, 1 << 50), st.sampled_from(["d", "o", "x", "X"]),
       st.sampled_from(["", *"kmgtpeKMGTPE"]))  # fmt: skip
@example(0, "o", "k")
def test_the_kernel(number: int, base: str, suffix: str) -> None:
    digits = {"d": f"{number:d}", "o": f"0{number:o}"}.get(base, f"0{base}{number:{base}}")
    assume(base in "do" or suffix not in "eE")  # a digit there
    value = number
    for _ in range(" kmgtpe".index(suffix.lower() or " ")):
        value <<= 10  # memparse's cases fall through
    _agrees(f"{digits}{suffix}", Dialect.CGROUPFS, value)


@pytest.mark.skipif(not LIBRARIES, reason="no libsystemd-shared here")
@given(st.lists(
    st.tuples(st.integers(0, 10**6), BEHIND, st.sampled_from(["", " ", "  "]),
              st.sampled_from(["", "B", "K", "M", "G", "T", "P", "E", "k", "KB"])),
    min_size=1, max_size=3))  # fmt: skip
def test_systemd(parts: list[tuple[int, str, str, str]]) -> None:
    text = " ".join(
        f"{_number(whole, behind)}{space}{suffix}" for whole, behind, space, suffix in parts
    )
    size = ctypes.c_uint64()
    parse = ctypes.CDLL(str(LIBRARIES[0])).parse_size
    refused = parse(text.encode(), ctypes.c_uint64(1024), ctypes.byref(size)) != 0
    if len(text) > 40:
        return  # longer than any size that people write: refused here
    if refused or size.value > MAX_BYTES:
        with pytest.raises(UnitError):
            parse_size(text, Dialect.SYSTEMD)
        return
    exact = sum(whole << 10 * " KMGTPE".index(s if s in "KMGTPE" else " ")
                for whole, _, _, s in parts if s)  # fmt: skip
    if exact <= MAX_BYTES:  # past 2**64 its own sum wraps around
        assert parse_size(text, Dialect.SYSTEMD) == size.value


@pytest.mark.parametrize(
    ("text", "dialect", "size"),
    [("1.3k", Dialect.K8S, 1300), ("1.3k", Dialect.DOCKER, 1331), ("1.3K", Dialect.SYSTEMD, 1331),
     ("0.0005Ki", Dialect.K8S, 1), ("0.0005k", Dialect.DOCKER, 0),
     ("1G 500M", Dialect.SYSTEMD, (1 << 30) + (500 << 20)), ("010M", Dialect.CGROUPFS, 8 << 20),
     ("0x10k", Dialect.CGROUPFS, 16384)],
)  # fmt: skip
def test_the_same_number_in_each(text: str, dialect: Dialect, size: int) -> None:
    assert parse_size(text, dialect) == size


@pytest.mark.parametrize(
    ("text", "dialect"),
    [("500M 1G", Dialect.SYSTEMD), ("1 1", Dialect.SYSTEMD), ("8KB", Dialect.SYSTEMD),
     ("089", Dialect.CGROUPFS), ("+5M", Dialect.CGROUPFS), ("0x", Dialect.CGROUPFS),
     ("1.5G", Dialect.CGROUPFS), ("1ee", Dialect.K8S), ("1 Mi", Dialect.K8S)],
)  # fmt: skip
def test_what_the_program_itself_refuses(text: str, dialect: Dialect) -> None:
    with pytest.raises(UnitError, match="is not a memory size"):
        parse_size(text, dialect)
