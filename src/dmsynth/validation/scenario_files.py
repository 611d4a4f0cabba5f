"""Scenario files: reading and validation, with line numbers in errors, and the included library."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import yaml

from dmsynth.motion.trajectory import Motion
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import write_text
from dmsynth.support.yaml_files import checked_yaml, yaml_of, yaml_text
from dmsynth.validation.scenarios import Scenario


def parse_scenario(text: str, where: str) -> Scenario:
    """A scenario from YAML. ``DmsynthError`` naming ``where`` and the line of the first mistake."""
    root, content = yaml_of(text, where, "scenario", "`dmsynth scenario show` prints one to start from")
    return checked_yaml(root, content, Scenario, where, "scenario")


def read_scenario(path: Path) -> Scenario:
    """Read one file. The file name must be the scenario's name."""
    if not path.is_file():
        raise DmsynthError(f"{path}: no such scenario; `dmsynth scenario list` names those that come along")
    text = yaml_text(path, "scenario")
    scenario = parse_scenario(text, str(path))
    if scenario.name != path.stem:
        raise DmsynthError(f"{path}: holds the scenario {scenario.name!r}; name the file {scenario.name}.yaml")
    return scenario


def write_scenario(path: Path, title: str, motions: Sequence[Motion], frame_rate: float, speed: float = 80.0) -> Path:
    """Write motions as a scenario that ignores warnings (``docs/scenarios.md`` explains how to add expected ones).

    The file's name is the scenario's. Raises ``DmsynthError`` for a name or motions that are no valid scenario.
    """
    moves = [
        {"hold": motion.seconds} if motion.kind == "hold" else {motion.kind: motion.pose, "seconds": motion.seconds}
        for motion in motions
    ]
    content = {
        "name": path.stem,
        "title": title,
        "source": "drawn by hand",
        "speed": speed,
        "frame_rate": frame_rate,
        "moves": moves,
        "warnings": "ignore",
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    parse_scenario(text, path.name)
    write_text(path, text)
    return path


def library() -> list[Path]:
    """The files of the included scenarios, sorted by name."""
    return sorted(Path(str(files("dmsynth").joinpath("data/scenarios"))).glob("*.yaml"))


def find_scenarios(names: Sequence[str]) -> list[Scenario]:
    """Scenarios by name, file or folder; ``all`` and the name of a group select included ones.

    Raises:
        DmsynthError: no such scenario; two with the same name.
    """
    shipped = {path.stem: path for path in library()}
    found: dict[str, Path] = {}
    for name in names:
        path = Path(name)
        if name in shipped:
            paths = [shipped[name]]
        elif path.is_dir():
            paths = sorted(path.glob("*.yaml"))
        elif path.suffix in (".yaml", ".yml"):
            paths = [path]
        else:
            paths = [file for file in shipped.values() if name in ("all", read_scenario(file).group)]
        if not paths:
            raise DmsynthError(
                f"{name}: no such scenario; give all, a group or a name of `dmsynth scenario list`, a .yaml file or a "
                "folder of them"
            )
        for each in paths:
            if found.setdefault(each.stem, each).resolve() != each.resolve():
                raise DmsynthError(f"{each}: another scenario of this name is {found[each.stem]}; rename one")
    return [read_scenario(path) for path in found.values()]
