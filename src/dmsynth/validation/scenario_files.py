"""Scenario files: reading and validation, with line numbers in errors, and the included library."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import ValidationError

from dmsynth.motion.trajectory import Motion
from dmsynth.support.errors import DmsynthError
from dmsynth.support.files import write_text
from dmsynth.validation.scenarios import Scenario

_LARGEST_FILE = 100_000  # bytes
_DEEPEST = 30
_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "map", "null", "seq", "str"))


def _line(root: yaml.Node, place: Sequence[int | str]) -> tuple[int, str]:
    """Line (from 1) of the deepest part of the path ``place`` that exists in the text, and the name of that part."""
    node, line, names = root, root.start_mark.line, []
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:  # a pydantic tag, or a missing name
                continue
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            continue
        names.append(str(part))
    missing = [str(place[-1])] if place and isinstance(node, yaml.MappingNode) and not _is_tag(place[-1]) else []
    return int(line) + 1, ".".join(names + [name for name in missing if name not in names])


def parse_scenario(text: str, where: str) -> Scenario:
    """A scenario from YAML. ``DmsynthError`` naming ``where`` and the line of the first mistake."""
    try:
        _refuse_bombs(text, where)
        root = yaml.compose(text, yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise DmsynthError(f"{where}: holds no scenario; `dmsynth scenario show` prints one to start from")
        _refuse_doubles(root, where)  # before it is built: a list as a name cannot be
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        raise DmsynthError(f"{where}{at}: not valid YAML ({_short(getattr(error, 'problem', error))})") from None
    except ValueError as error:  # an impossible date
        raise DmsynthError(f"{where}: not valid YAML ({_short(error)})") from None
    try:
        return Scenario.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = first["loc"] + getattr(first.get("ctx", {}).get("error"), "place", ())
        line, known = _line(root, place)
        message = first["msg"].removeprefix("Value error, ")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise DmsynthError(f"{where}, line {line}: {known or 'the scenario'}: {message}{more}") from None


def _short(said: object) -> str:
    return " ".join(str(said).split())[:200]


def _is_tag(part: int | str) -> bool:
    """Whether a part is pydantic's tag for the kind of a step, which is not in the text."""
    return isinstance(part, str) and part.startswith("(")


def _refuse_bombs(text: str, where: str) -> None:
    """Reject YAML that is small as text but huge when loaded (aliases, deep nesting), and special tags."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise DmsynthError(f"{where}, line {line}: aliases (*name) are not read; write the part out, or use repeat")
        tag = getattr(event, "tag", None)
        if tag not in (None, "!") and tag not in _TAGS:  # pairs, sets, binary data, objects: no scenario holds any
            raise DmsynthError(f"{where}, line {line}: not valid YAML for a scenario (the tag {tag}); remove the tag")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise DmsynthError(f"{where}, line {line}: lists in lists, more than {_DEEPEST} deep; write it flatter")


def _refuse_doubles(node: yaml.Node, where: str) -> None:
    """Reject duplicate keys: YAML would silently take the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                raise DmsynthError(f"{where}, line {line}: a list or map stands where a name is needed; write a name")
            if key.value in seen:
                raise DmsynthError(f"{where}, line {key.start_mark.line + 1}: {key.value} is given twice; keep one")
            seen.add(key.value)
            _refuse_doubles(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_doubles(item, where)


def read_scenario(path: Path) -> Scenario:
    """Read one file. The file name must be the scenario's name."""
    if not path.is_file():
        raise DmsynthError(f"{path}: no such scenario; `dmsynth scenario list` names those that come along")
    if path.stat().st_size > _LARGEST_FILE:
        raise DmsynthError(f"{path}: has {path.stat().st_size} bytes; a scenario has at most {_LARGEST_FILE}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DmsynthError(f"{path}: is no text; a scenario is a YAML file") from None
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
