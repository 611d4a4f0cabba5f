"""YAML files that people write: read safely, with bounded size, and with the line of the first mistake in errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from dmsynth.support.errors import DmsynthError

_LARGEST_FILE = 100_000  # bytes
_DEEPEST = 30
_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "map", "null", "seq", "str"))

_Model = TypeVar("_Model", bound=BaseModel)


def yaml_text(path: Path, what: str) -> str:
    """The text of a file of bounded size. ``DmsynthError``: it is too large, or no text; ``what`` it should hold."""
    if path.stat().st_size > _LARGEST_FILE:
        raise DmsynthError(f"{path}: has {path.stat().st_size} bytes; a {what} has at most {_LARGEST_FILE}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DmsynthError(f"{path}: is no text; a {what} is a YAML file") from None


def yaml_of(text: str, where: str, what: str, mend: str) -> tuple[yaml.MappingNode, Any]:
    """The nodes and the content of a YAML text that holds names with values.

    Args:
        where: its source in messages.
        what: what it should hold, and ``mend`` how to come by one.

    Raises:
        DmsynthError: with the line of the first mistake: no YAML, aliases, special tags, a name that is given twice.
    """
    try:
        _refuse_bombs(text, where, what)
        root = yaml.compose(text, yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise DmsynthError(f"{where}: holds no {what}; {mend}")
        _refuse_doubles(root, where)  # before it is built: a list as a name cannot be
        return root, yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        raise DmsynthError(f"{where}{at}: not valid YAML ({_short(getattr(error, 'problem', error))})") from None
    except ValueError as error:  # an impossible date
        raise DmsynthError(f"{where}: not valid YAML ({_short(error)})") from None


def checked_yaml(root: yaml.Node, content: Any, model: type[_Model], where: str, what: str) -> _Model:
    """The content of a YAML text as ``model``. ``DmsynthError`` naming the line of the first wrong entry."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = first["loc"] + getattr(first.get("ctx", {}).get("error"), "place", ())
        line, known = _line(root, place)
        message = first["msg"].removeprefix("Value error, ")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise DmsynthError(f"{where}, line {line}: {known or f'the {what}'}: {message}{more}") from None


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


def _short(said: object) -> str:
    return " ".join(str(said).split())[:200]


def _is_tag(part: int | str) -> bool:
    """Whether a part is pydantic's tag for the kind of a step, which is not in the text."""
    return isinstance(part, str) and part.startswith("(")


def _refuse_bombs(text: str, where: str, what: str) -> None:
    """Reject YAML that is small as text but huge when loaded (aliases, deep nesting), and special tags."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise DmsynthError(f"{where}, line {line}: aliases (*name) are not read; write the part out, or use repeat")
        tag = getattr(event, "tag", None)
        if tag not in (None, "!") and tag not in _TAGS:  # pairs, sets, binary data, objects: nothing here holds any
            raise DmsynthError(f"{where}, line {line}: not valid YAML for a {what} (the tag {tag}); remove the tag")
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
