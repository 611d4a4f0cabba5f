"""Verdicts as JUnit XML, which every CI server shows."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from dmsynth.files import write_text

_NO_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def write_junit(path: Path, results: dict[str, Any]) -> None:
    """One test case a scenario: a failed one is a failure, a DMS that broke down an error, an inconclusive one skipped.

    ``results`` is the content of ``results.json``.
    """
    scenarios = results["scenarios"]
    kinds = [_kind(scenario) for scenario in scenarios]
    counts = {
        "tests": len(scenarios),
        "failures": kinds.count("failure"),
        "errors": kinds.count("error"),
        "skipped": kinds.count("skipped"),
        "time": round(sum(scenario["dms_seconds"] for scenario in scenarios), 3),
    }
    attributes = {name: str(value) for name, value in counts.items()}
    root = ElementTree.Element("testsuites", attributes)
    suite = ElementTree.SubElement(root, "testsuite", {"name": _clean(results["dms"]["name"]), **attributes})
    for scenario, kind in zip(scenarios, kinds, strict=True):
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {
                "classname": f"dmsynth.{scenario['group']}",
                "name": scenario["name"],
                "time": f"{scenario['dms_seconds']:.3f}",
            },
        )
        if kind:
            reasons = [_clean(reason) for reason in scenario["reasons"]]
            told = ElementTree.SubElement(case, kind, {"message": "; ".join(reasons)})
            told.text = "\n".join(reasons)
    ElementTree.indent(root)
    write_text(path, ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n")


def _kind(scenario: dict[str, Any]) -> str | None:
    if scenario["outcome"] == "inconclusive":
        return "skipped"
    if scenario["outcome"] == "fail":
        return "error" if scenario["problem"] else "failure"
    return None


def _clean(text: str) -> str:
    """Without what XML cannot hold: a DMS may say anything."""
    return _NO_XML.sub("\ufffd", text)
