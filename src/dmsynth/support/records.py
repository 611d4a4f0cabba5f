"""Validated reading of the JSON files that dmsynth writes, with bounded size.

Such files are copied, mailed and edited before they are read again. A file is either valid, or rejected with one line
that names the file, the position and what to do.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from dmsynth.support.errors import DmsynthError

LARGEST = 64 * 2**20  # bytes of a file
_SHOWN = 120  # characters of a position in messages
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

Text = Annotated[str, Field(max_length=20_000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Count = Annotated[int, Field(ge=0, le=10**9)]


class Record(BaseModel):
    """Strict model: no type coercion; NaN and infinity are errors."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


_Model = TypeVar("_Model", bound=BaseModel)


def read_record(path: Path, model: type[_Model], mend: str, largest: int = LARGEST) -> _Model:
    """A JSON file as ``model``.

    Args:
        mend: advice in the error message for a damaged file.
        largest: maximum size in bytes.

    Raises:
        DmsynthError: the file is missing or damaged; one line with the position.
    """
    return checked(content_of(path, mend, largest), model, str(path), mend)


def content_of(path: Path, mend: str, largest: int = LARGEST) -> Any:
    """The content of a JSON file of bounded size without NaN or infinity."""
    try:
        size = path.stat().st_size
        if size > largest:
            raise DmsynthError(f"{path}: has {size} bytes, more than it can have ({largest}); {mend}")
        return json_of(path.read_bytes(), str(path), mend)
    except FileNotFoundError:
        raise DmsynthError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise DmsynthError(f"{path}: is a folder where a file is needed; check the path") from None


def json_of(text: bytes | str, where: str, mend: str) -> Any:
    """The content of a JSON text; ``where`` names its source in messages."""
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise DmsynthError(f"{where}: not valid JSON ({printable(str(error))}); {mend}") from None


def checked(content: Any, model: type[_Model], where: str, mend: str) -> _Model:
    """JSON-like content as ``model``; ``DmsynthError`` naming the first wrong entry."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = printable(".".join(map(str, first["loc"])))[:_SHOWN] or "the whole"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        said = first["msg"].removeprefix("Value error, ")
        what = "is missing" if first["type"] == "missing" else said[0].lower() + said[1:]
        raise DmsynthError(
            f"{where}: {place}: {what}{more}; the file is damaged or of an earlier version: {mend}"
        ) from None


def printable(text: str) -> str:
    """An untrusted text with control and invisible characters escaped, such as ``\\x1b``."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def all_printable(content: Any) -> Any:
    """``printable`` for every text in JSON-like content."""
    if isinstance(content, str):
        return printable(content)
    if isinstance(content, dict):
        return {
            printable(name) if isinstance(name, str) else name: all_printable(each) for name, each in content.items()
        }
    if isinstance(content, list | tuple):
        return [all_printable(each) for each in content]
    return content
