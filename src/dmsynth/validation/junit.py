"""Verdicts as JUnit XML, which every CI server can display."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dmsynth.support.files import write_text
from dmsynth.validation.factors import rate_in_words
from dmsynth.validation.matrix import condition

_NO_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def write_junit(path: Path, results: dict[str, Any]) -> None:
    """One test case per scenario, with its requirements as properties; of a cast, one suite per person. A failed
    verdict is a failure, a DMS that broke down an error; an inconclusive verdict is skipped.

    ``results`` is the content of ``results.json``.
    """
    root = ElementTree.Element("testsuites", _counts(results["scenarios"]))
    dms = results["dms"]["name"]
    for driver in results.get("persons") or [results["face"]]:
        person = driver["name"] if results.get("persons") else None
        scenarios = [each for each in results["scenarios"] if each.get("person") == person]
        name = _clean(f"{dms}: {person}" if person else dms)
        suite = ElementTree.SubElement(root, "testsuite", {"name": name, **_counts(scenarios)})
        _add_properties(suite, _about(results, driver))
        for scenario in scenarios:
            _add_case(suite, scenario)
    ElementTree.indent(root)
    write_text(path, ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n")


def _counts(scenarios: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Attributes of a suite, or of all."""
    kinds = [_kind(scenario) for scenario in scenarios]
    counts = {
        "tests": len(scenarios),
        "failures": kinds.count("failure"),
        "errors": kinds.count("error"),
        "skipped": kinds.count("skipped"),
        "time": round(sum(scenario["dms_seconds"] for scenario in scenarios), 3),
    }
    return {name: str(value) for name, value in counts.items()}


def _add_case(suite: ElementTree.Element, scenario: dict[str, Any]) -> None:
    of_person = [scenario["person"]] if scenario.get("person") else []
    case = ElementTree.SubElement(
        suite,
        "testcase",
        {
            "classname": ".".join(["dmsynth", *of_person, scenario["group"]]),
            "name": scenario["name"] + condition(scenario["factors"]),
            "time": f"{scenario['dms_seconds']:.3f}",
        },
    )
    properties = [("requirement", each) for each in scenario["requirements"]]
    properties += [("person", person) for person in of_person]
    properties += [(name, scenario[name]) for name in ("camera", "worn") if scenario.get(name)]
    properties += [(f"factor {name}", level) for name, level in scenario["factors"].items()]
    _add_properties(
        case,
        [*properties, ("video_sha256", scenario["video_sha256"] or "not tested"), ("judged", scenario["judged"])],
    )
    kind = _kind(scenario)
    if kind:
        reasons = [_clean(reason) for reason in scenario["reasons"]]
        element = ElementTree.SubElement(case, kind, {"message": "; ".join(reasons)})
        element.text = "\n".join(reasons)


def _about(results: dict[str, Any], driver: dict[str, Any]) -> list[tuple[str, str]]:
    """Audit data of a run with a driver, and the verdict on each requirement over all of them."""
    run, dms = results["run"], results["dms"]
    return [
        ("run_id", run["id"]),
        ("date", run["date"]),
        ("made_by", results["made_by"]),
        ("command", results["command"]),
        ("dms_name", dms["name"]),
        ("dms_version", dms["version"] or "not stated"),
        ("face", driver.get("face", driver["name"])),
        ("face_sha256", driver["sha256"]),
        *((f"requirement {each['id']}", each["outcome"]) for each in results["requirements"]),
        *(
            (f"factor {factor['name']} {level['level']}", f"passes {rate_in_words(level)}")
            for factor in results.get("by_factor", [])
            for level in factor["levels"]
        ),
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
