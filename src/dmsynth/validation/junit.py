"""Verdicts as JUnit XML, which every CI server can display."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from dmsynth.support.files import write_text

_NO_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def write_junit(path: Path, results: dict[str, Any]) -> None:
    """One test case per scenario, with its requirements as properties. A failed verdict is a failure, a DMS that broke
    down an error; an inconclusive verdict is skipped.

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
    _add_properties(suite, _about(results))
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
        properties = [("requirement", each) for each in scenario["requirements"]]
        _add_properties(
            case,
            [*properties, ("video_sha256", scenario["video_sha256"] or "not tested"), ("judged", scenario["judged"])],
        )
        if kind:
            reasons = [_clean(reason) for reason in scenario["reasons"]]
            element = ElementTree.SubElement(case, kind, {"message": "; ".join(reasons)})
            element.text = "\n".join(reasons)
    ElementTree.indent(root)
    write_text(path, ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n")


def _about(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Audit data of a run, and the verdict on each requirement."""
    run, dms = results["run"], results["dms"]
    return [
        ("run_id", run["id"]),
        ("date", run["date"]),
        ("made_by", results["made_by"]),
        ("command", results["command"]),
        ("dms_name", dms["name"]),
        ("dms_version", dms["version"] or "not stated"),
        ("face", results["face"]["name"]),
        ("face_sha256", results["face"]["sha256"]),
        *((f"requirement {each['id']}", each["outcome"]) for each in results["requirements"]),
    ]


def _add_properties(element: ElementTree.Element, properties: list[tuple[str, str]]) -> None:
    parent = ElementTree.SubElement(element, "properties")
    for name, value in properties:
        ElementTree.SubElement(parent, "property", {"name": _clean(name), "value": _clean(value)})


def _kind(scenario: dict[str, Any]) -> str | None:
    if scenario["outcome"] == "inconclusive":
        return "skipped"
    if scenario["outcome"] == "fail":
        return "error" if scenario["problem"] else "failure"
    return None


def _clean(text: str) -> str:
    """Replace characters that XML cannot contain: a DMS may output anything."""
    return _NO_XML.sub("\ufffd", text)
