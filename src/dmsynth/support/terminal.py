"""Output to the terminal, a file or a pipe.

Everything is printed as plain text: file names, titles and program output can contain anything, and must not act as
markup or as terminal escape sequences.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text


def printable(text: str) -> str:
    """A text without terminal control characters and text-direction marks; line breaks and tabs stay."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


class Terminal(Console):
    """A console that prints plain texts without line breaks of its own: a terminal wraps them, a file or pipe need
    not."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False, emoji=False)

    def print(self, *objects: Any, **how: Any) -> None:
        texts = any(isinstance(part, str) for part in objects)
        super().print(
            *(printable(part) if isinstance(part, str) else part for part in objects), **{"soft_wrap": texts} | how
        )

    def table(
        self, headers: Sequence[str], rows: Sequence[Sequence[object]], colours: Mapping[str, str] | None = None
    ) -> None:
        """Rows in columns. On a terminal, long cells are folded to its width; elsewhere, each row is one whole line.

        Args:
            colours: of cells, by their text.
        """
        cells = [[printable(str(cell)) for cell in row] for row in rows]
        if self.is_terminal:
            table = Table(*(Column(Text(printable(header))) for header in headers))
            for row in cells:
                table.add_row(*(Text(cell, (colours or {}).get(cell, ""), overflow="fold") for cell in row))
            super().print(table)
            return
        lines = [[printable(header) for header in headers], *cells]
        widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
        for line in lines:
            self.print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def make_streams_safe() -> None:
    """Let standard output and error accept any character in any encoding, and tolerate closed streams."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
            continue
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="replace")
