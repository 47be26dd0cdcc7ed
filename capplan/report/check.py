"""The gate's answer as text, as a result, and as JUnit XML for CI."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

from capplan.report import many
from capplan.report.files import as_json, replace_file, result_folder
from capplan.report.lines import aligned, wrap
from capplan.report.many_text import section
from capplan.report.results import SUMMARY
from capplan.report.words import clean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from capplan.plan.check import Check, Rule
    from capplan.plan.risk import Risk

__all__ = ["check_text", "junit", "write_check"]

CHECK = "check.json"
WORDS = {True: "ok", False: "FAILS", None: "undecided"}


def check_text(found: Check) -> str:
    """The verdict, then each rule that is not met, then a count of those that are."""
    lines = wrap(found.verdict)
    bad = [rule for rule in found.rules if not rule.passed]
    rows = [[WORDS[rule.passed], rule.name, clean(rule.who), clean(rule.message)] for rule in bad]
    lines += section("Rules", aligned(("", "rule", "of", "found"), rows) if rows else [])
    lines += ["", f"{len(found.rules) - len(bad)} of {len(found.rules)} rules hold"]
    return "\n".join(lines) + "\n"


def write_check(
    found: Check,
    risk: Risk,
    directory: Path,
    *,
    command: str = "",
    seed: int,
    resolved: Mapping[str, Any],
) -> None:
    """Write check.json and, in place of the risk run's summary.json, the gate's.

    Raises
    ------
    InputError
        When the directory cannot be written.
    """
    content = {**risk.to_dict(), **found.to_dict()}
    said = many.summary("check", content, command=command, seed=seed, resolved=resolved)
    with result_folder(directory):
        replace_file(directory / CHECK, as_json({"format": many.FORMAT, **found.to_dict()}))
        replace_file(directory / SUMMARY, as_json(said))


def junit(found: Check) -> bytes:
    """One test case a rule; what is undecided fails too, for it was not shown.

    Source: the JUnit XML that CI servers read (testsuite, testcase, failure).
    """
    failures = sum(not rule.passed for rule in found.rules)
    suite = ET.Element(
        "testsuite", name=f"capplan check {clean(found.name)}", tests=str(len(found.rules)),
        failures=str(failures), errors="0", skipped="0",
    )  # fmt: skip
    for rule in found.rules:
        _case(suite, rule)
    ET.indent(suite)
    text = ET.tostring(suite, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _case(suite: ET.Element, rule: Rule) -> None:
    case = ET.SubElement(suite, "testcase", classname=clean(rule.who), name=rule.name)
    if rule.passed:
        ET.SubElement(case, "system-out").text = clean(rule.message)
    else:
        kind = "undecided" if rule.passed is None else "beyond the gate"
        ET.SubElement(case, "failure", message=clean(rule.message), type=kind)
