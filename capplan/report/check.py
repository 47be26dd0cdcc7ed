"""The gate's answer as text, and as JUnit XML for CI."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from capplan.report.many_text import aligned, paragraph, section
from capplan.report.words import clean

if TYPE_CHECKING:
    from capplan.plan.check import Check, Rule

__all__ = ["check_text", "junit"]

WORDS = {True: "ok", False: "FAILS", None: "undecided"}


def check_text(found: Check) -> str:
    """The verdict, then each rule that is not met, then a count of those that are."""
    lines = paragraph(found.verdict)
    bad = [rule for rule in found.rules if not rule.passed]
    rows = [[WORDS[rule.passed], rule.name, clean(rule.who), clean(rule.message)] for rule in bad]
    lines += section("Rules", aligned(("", "rule", "of", "found"), rows) if rows else [])
    lines += ["", f"{len(found.rules) - len(bad)} of {len(found.rules)} rules hold"]
    return "\n".join(lines) + "\n"


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
