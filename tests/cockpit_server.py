"""A cockpit in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import websockets


@dataclass
class Cockpit:
    """A running cockpit: its address without and with the token, its workspace, and the process."""

    address: str
    way_in: str
    root: Path
    process: subprocess.Popen[str]
    seconds: float

    @property
    def cookie(self) -> dict[str, str]:
        """What a browser that was let in sends along."""
        return {"Cookie": f"dmsynth-{self.address.rpartition(':')[2]}={self.way_in.partition('=')[2]}"}

    def client(self) -> httpx.Client:
        """A browser that was let in, as a program."""
        return httpx.Client(base_url=self.address, headers=self.cookie, timeout=60)

    def line(self, **how: Any) -> websockets.connect:
        """The connection over which a face is steered."""
        address = f"{self.address.replace('http', 'ws')}/live"
        return websockets.connect(address, additional_headers=self.cookie, max_size=None, **how)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def running_cockpit(root: Path, *arguments: object, door: str = "cockpit") -> Iterator[Cockpit]:
    """Start one on a free port, by the command ``cockpit`` or ``record``, and end it."""
    command = [sys.executable, "-m", "dmsynth.cli", door, "--no-browser", "--port", "0", "--workspace", str(root)]
    begun = time.monotonic()
    process = subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore", "COLUMNS": "300"},
    )  # fmt: skip
    try:
        said = ""
        assert process.stdout is not None
        while not (found := re.search(r"cockpit: ((http://127\.0\.0\.1:\d+)/(?:record)?\?token=\S+)", said)):
            line = process.stdout.readline()
            assert line or process.poll() is None, said
            said += line
        # whoever writes into a full pipe stands still
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield Cockpit(found[2], found[1], root, process, time.monotonic() - begun)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
