"""Quantities per dialect: worked numbers, edges, round trips."""

from __future__ import annotations

import contextlib
import copy
import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capplan.units import (
    GIB,
    KIB,
    MAX_BYTES,
    MIB,
    UNLIMITED,
    Dialect,
    UnitError,
    format_bytes,
    format_duration,
    format_k8s,
    format_rate,
    parse_duration,
    parse_k8s,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "k8s", "docker"),
    [
        ("512m", 1, 512 * MIB),
        ("512M", 512_000_000, 512 * MIB),
        ("1k", 1000, KIB),
        ("1.5G", 1_500_000_000, 3 * GIB // 2),
        ("4096", 4096, 4096),
    ],
)
def test_parse_size_same_text_differs_between_kubernetes_and_docker(text, k8s, docker):
    assert parse_size(text) == k8s
    assert parse_size(text, Dialect.DOCKER) == docker


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("512m", Fraction(64, 125)),
        ("500m", Fraction(1, 2)),
        ("1.5Gi", Fraction(1610612736)),
        ("12e3", Fraction(12000)),
        ("12E3", Fraction(12000)),
        ("12E", Fraction(12 * 10**18)),
        ("1e-3", Fraction(1, 1000)),
        (".5Ki", Fraction(512)),
        ("5.", Fraction(5)),
        ("+3n", Fraction(3, 10**9)),
        (7, Fraction(7)),
    ],
)
def test_parse_k8s_is_exact(text, exact):
    assert parse_k8s(text) == exact


def test_parse_size_half_a_byte_rounds_up_and_remembers():
    size = parse_size("500m")
    assert size == 1
    assert (size.text, size.exact) == ("500m", Fraction(1, 2))


def test_size_survives_copy_and_pickle():
    size = parse_size("500m")
    for other in (copy.deepcopy(size), pickle.loads(pickle.dumps(size))):
        assert (other, other.text, other.exact) == (1, "500m", Fraction(1, 2))


@pytest.mark.parametrize(
    ("text", "dialect", "size"),
    [
        ("64mb", Dialect.DOCKER, 64 * MIB),
        ("64MiB", Dialect.DOCKER, 64 * MIB),
        ("10b", Dialect.DOCKER, 10),
        ("-1", Dialect.DOCKER, UNLIMITED),
        ("1.5G", Dialect.SYSTEMD, 3 * GIB // 2),
        ("1E", Dialect.SYSTEMD, 1 << 60),
        ("infinity", Dialect.SYSTEMD, UNLIMITED),
        ("max", Dialect.CGROUPFS, UNLIMITED),
        ("-1", Dialect.CGROUPFS, UNLIMITED),
        ("100m", Dialect.CGROUPFS, 100 * MIB),
        ("805306368", Dialect.CGROUPFS, 768 * MIB),
    ],
)
def test_parse_size_of_each_dialect(text, dialect, size):
    assert parse_size(text, dialect) == size


@pytest.mark.parametrize(
    ("text", "dialect", "message", "suggestion"),
    [
        ("2Gx", Dialect.K8S, "'2Gx' is not a memory size", "2Gi"),
        ("2GB", Dialect.K8S, "'2GB' is not a memory size", "2Gi"),
        ("512 mb", Dialect.K8S, "'512 mb' is not a memory size", "512Mi"),
        ("", Dialect.K8S, "'' is not a memory size", ""),
        ("Mi", Dialect.K8S, "'Mi' is not a memory size", ""),
        ("-4Gi", Dialect.K8S, "'-4Gi' is negative", ""),
        ("8Ei", Dialect.K8S, "'8Ei' is more than a counter holds", ""),
        ("1e99", Dialect.K8S, "'1e99' is not a memory size", ""),
        ("max", Dialect.K8S, "'max' is not a memory size", ""),
        ("512Ki", Dialect.SYSTEMD, "'512Ki' is not a memory size", "512K"),
        ("1.5G", Dialect.CGROUPFS, "'1.5G' is not a memory size", "1.5G"),
        ("1x", Dialect.DOCKER, "'1x' is not a memory size", ""),
        ("9" * 5000, Dialect.K8S, "'9999999999", ""),
        (float("nan"), Dialect.K8S, "'nan' is not a memory size", ""),
        (True, Dialect.DOCKER, "'True' is not a memory size", ""),
    ],
)
def test_parse_size_refuses_with_a_repair(text, dialect, message, suggestion):
    with pytest.raises(UnitError, match=message) as caught:
        parse_size(text, dialect)
    assert caught.value.suggestion == suggestion


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("6h", 6 * 3600 * 10**9),
        ("10min", 600 * 10**9),
        ("10m", 600 * 10**9),
        ("250ms", 250 * 10**6),
        ("1h30m", 5400 * 10**9),
        ("1h 30min", 5400 * 10**9),
        ("1.5s", 1_500_000_000),
        ("7d", 7 * 86400 * 10**9),
        ("3ns", 3),
        (0, 0),
    ],
)
def test_parse_duration(text, ns):
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    ("text", "message", "suggestion"),
    [
        (24, "'24' has no unit", "24s"),
        ("24", "'24' is not a duration", "24s"),
        ("", "'' is not a duration", ""),
        ("1 fortnight", "is not a duration", ""),
        ("-5s", "'-5s' is negative", ""),
        ("9999999h", "'9999999h' is not a duration", ""),
        ("1hh", "'1hh' is not a duration", ""),
        (True, "'True' has no unit", ""),
    ],
)
def test_parse_duration_refuses(text, message, suggestion):
    with pytest.raises(UnitError, match=message) as caught:
        parse_duration(text)
    assert caught.value.suggestion == suggestion


@pytest.mark.parametrize(
    ("text", "per_second"),
    [("20Mi/s", 20 * MIB), ("60Ki/min", KIB), ("3600/h", 1.0), ("1.5k/ms", 1.5e6), (0, 0.0)],
)
def test_parse_rate(text, per_second):
    assert parse_rate(text) == per_second


@pytest.mark.parametrize(
    ("text", "message", "suggestion"),
    [
        ("20Mi", "'20Mi' is not a rate", "20Mi/s"),
        ("20Mb/s", "'20Mb/s' is not a rate", "20Mi/s"),
        ("20Mi/x", "'20Mi/x' is not a rate", ""),
        ("-1Mi/s", "'-1Mi/s' is negative", ""),
        ("1Ei/ns", "'1Ei/ns' is more than a counter holds", ""),
        (20, "'20' has no unit", "20Mi/s"),
    ],
)
def test_parse_rate_refuses(text, message, suggestion):
    with pytest.raises(UnitError, match=message) as caught:
        parse_rate(text)
    assert caught.value.suggestion == suggestion


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (805306368, "768 MiB"),
        (1610612736, "1.5 GiB"),
        (4095, "4 KiB"),
        (12, "12 B"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024 * 1024 - 1, "1 MiB"),
        (64 * GIB, "64 GiB"),
        (1 << 50, "1024 TiB"),
        (-3 * MIB, "-3 MiB"),
        (UNLIMITED, "max"),
    ],
)
def test_format_bytes(size, text):
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 s"),
        (250 * 10**6, "250 ms"),
        (12_500_000_000, "12.5 s"),
        (90 * 10**9, "1 min 30 s"),
        (5400 * 10**9, "1 h 30 min"),
        (24 * 3600 * 10**9, "24 h"),
        (50 * 3600 * 10**9, "2 d 2 h"),
        (-2 * 10**9, "-2 s"),
        (3599.9 * 10**9, "1 h"),
    ],
)
def test_format_duration(ns, text):
    assert format_duration(ns) == text


def test_format_rate():
    assert format_rate(20 * MIB) == "20 MiB/s"


@given(st.integers(0, MAX_BYTES))
def test_format_k8s_round_trips(size):
    assert parse_size(format_k8s(size)) == size


@given(st.integers(0, 1 << 30), st.sampled_from(["k", "m", "g"]))
def test_docker_and_binary_k8s_agree(number, suffix):
    docker = parse_size(f"{number}{suffix}", Dialect.DOCKER)
    assert docker == parse_size(f"{number}{suffix.upper()}i")
    assert docker == parse_size(f"{number}{suffix.upper()}", Dialect.SYSTEMD)
    assert docker == parse_size(f"{number}{suffix}", Dialect.CGROUPFS)


@given(st.integers(0, 10**9), st.sampled_from(["k", "M", "G"]))
def test_decimal_suffixes_of_docker_are_larger_than_kubernetes(number, suffix):
    k8s, docker = parse_size(f"{number}{suffix}"), parse_size(f"{number}{suffix}", Dialect.DOCKER)
    assert docker > k8s or number == 0


@given(st.decimals(0, 10**6, places=3), st.sampled_from(["Ki", "Mi", "Gi", "k", "M", "G"]))
def test_parse_size_rounds_up_by_less_than_a_byte(number, suffix):
    size = parse_size(f"{number}{suffix}")
    assert size - 1 < size.exact <= size


@given(st.text(max_size=30), st.sampled_from(Dialect))
def test_parse_size_of_any_text_gives_a_size_or_a_unit_error(text, dialect):
    try:
        size = parse_size(text, dialect)
    except UnitError as error:
        refused = error
    else:
        assert UNLIMITED <= size <= MAX_BYTES
        return
    if refused.suggestion:
        parse_size(refused.suggestion, dialect)  # the repair is itself right


@given(st.text(alphabet="0123456789.hmsndiu-/ MiGk", max_size=12))
def test_durations_and_rates_of_any_text_never_fail_otherwise(text):
    for parse in (parse_duration, parse_rate):
        with contextlib.suppress(UnitError):
            assert parse(text) >= 0


@given(st.integers(0, 10**18))
def test_format_duration_is_within_a_tenth(ns):
    text = format_duration(ns)
    units = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
    units |= {"min": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
    words = text.split()
    total = sum(float(n) * units[u] for n, u in zip(words[::2], words[1::2], strict=True))
    assert abs(total - ns) <= 0.06 * ns
