"""The cockpit for an hour: three pages steering; its memory. Then odd requests, and what it answered.

    python -m torture.cockpit [MINUTES [REQUESTS]]

Ends with exit code 1 if an answer was a 5xx, if the cockpit stopped answering, or if its memory at the end (the last
minute's mean) is more than 5 % above that after ten minutes (half of the time, if there are less than twelve).
"""

from __future__ import annotations

import json
import random
import string
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np

from cockpit_server import Cockpit, running_cockpit
from conftest import browser_page

PAGES = 3
_STEER = """() => setInterval(() => {
    const steerer = window.dmsynthCockpit?.steer?.steerer;
    const now = performance.now() / 1000;
    steerer?.change([12 * Math.sin(now), 20 * Math.sin(0.7 * now), 6 * Math.cos(now)], performance.now());
    window.painted = (window.painted ?? 0) + (steerer?.painted.length ? 1 : 0);
}, 60)"""
_PATHS = (
    "/", "/config", "/api/faces", "/api/face", "/api/source", "/own/x", "/own/cockpit.js", "/files/x", "/files/results",
    "/theme.css", "/live", "/gradio_api/info", "/gradio_api/queue/join", "/gradio_api/queue/data",
    "/gradio_api/queue/status", "/gradio_api/upload", "/gradio_api/upload_progress", "/gradio_api/file=x",
    "/gradio_api/call/x", "/gradio_api/call/x/y", "/gradio_api/run/x", "/gradio_api/api/x", "/gradio_api/reset",
    "/gradio_api/cancel", "/gradio_api/component_server", "/gradio_api/stream/x/1/2/playlist.m3u8", "/gradio_api/runs",
    "/gradio_api/proxy=http://x", "/gradio_api/deep_link", "/gradio_api/startup-events", "/login", "/logout", "/token",
    "/app_id", "/monitoring", "/robots.txt", "/manifest.json", "/favicon.ico", "/static/x", "/assets/x", "/svelte/x",
    "/custom_component/x/y/z/w", "/pwa_icon", "/runs", "/gradio_api/dev/reload", "/mcp", "/gradio_api/mcp/sse",
)  # fmt: skip
_ODD: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1.5, "", "x", "../../etc/passwd", "\0", "é\u202e", "<script>", "a" * 5000, [], {}, [[]],
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, {"__type__": "update"}, {"headers": [], "data": []},
    {"headers": ["x"], "data": [["move", 1]], "metadata": None}, "starter", "SwapWarp", [1, 2, 3], ["a", None],
)  # fmt: skip


def memory(process: int) -> float:
    """Megabytes that a process occupies."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class Odd:
    """Requests of every kind, by a seeded generator."""

    def __init__(self, client: httpx.Client, seed: int) -> None:
        self.client, self.random = client, random.Random(seed)
        config = client.get("/config").json()
        self.functions = [each for each in config["dependencies"] if each["backend_fn"]]
        self.statuses: Counter[int | str] = Counter()
        self.faults: list[str] = []

    def ask(self) -> None:
        """One odd request, its answer counted."""
        kind = self.random.choice((self._queue, self._queue, self._queue, self._any, self._any, self._nearly))
        method, path, how = kind()
        try:
            with self.client.stream(method, path, timeout=3, **how) as answer:
                self.statuses[answer.status_code] += 1
                said = b""
                for part in answer.iter_raw(4096):
                    said += part
                    if len(said) > 100_000:
                        break
                if answer.status_code >= 500:
                    self.faults.append(f"{answer.status_code} {method} {path} {str(how)[:300]} {said[:200]!r}")
        except httpx.TimeoutException:
            self.statuses["waits"] += 1  # a stream of events that has nothing to say
        except (httpx.TransportError, httpx.InvalidURL) as error:
            self.statuses[type(error).__name__] += 1

    def _text(self) -> str:
        kinds = (string.printable, "./%\\", "é漢\u202e", string.ascii_letters)
        return "".join(self.random.choices(self.random.choice(kinds), k=self.random.randrange(0, 60)))

    def _value(self) -> Any:
        return self.random.choice((*_ODD, self._text()))

    def _queue(self) -> tuple[str, str, dict[str, Any]]:
        """A function of the page, asked for what its fields never hold."""
        function = self.random.choice(self.functions)
        data = [self._value() for _ in range(len(function["inputs"]) + self.random.choice((0, 0, 0, -1, 1)))]
        wish = {"fn_index": function["id"], "data": data, "session_hash": f"odd{self.random.randrange(20)}"}
        if self.random.random() < 0.2:
            wish[self.random.choice(("fn_index", "data", "session_hash", "trigger_id", "event_data"))] = self._value()
        path = self.random.choice(("/gradio_api/queue/join", "/gradio_api/queue/join", "/gradio_api/run/predict"))
        return "POST", path, {"content": json.dumps(wish).encode(), "headers": {"Content-Type": "application/json"}}

    def _any(self) -> tuple[str, str, dict[str, Any]]:
        """A route that is there, or nearly, with whatever."""
        path = self.random.choice(_PATHS) + self.random.choice(
            ("", "", "/", "?x=1", f"/{self._text()}", f"?{self._text()}")
        )
        method = self.random.choice(("GET", "GET", "GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"))
        how: dict[str, Any] = {}
        if method in ("POST", "PUT", "PATCH"):
            how["content"] = self.random.choice(
                (b"", b"{", b"[" * 5000, b"\0\xff" * 100, json.dumps(self._value()).encode())
            )
            kind = self.random.choice(("application/json", "multipart/form-data; boundary=x", "text/plain", "x"))
            how["headers"] = {"Content-Type": kind}
        return method, path.replace("\r", "").replace("\n", ""), how

    def _nearly(self) -> tuple[str, str, dict[str, Any]]:
        """Our own routes, with values that are nearly right."""
        value = str(self._value())[:200]
        return self.random.choice((
            ("GET", "/api/face", {"params": {"name": value}}),
            ("GET", "/api/source", {"params": {"face": value, "number": "0"}}),
            ("GET", "/api/source", {"params": {"face": "starter", "number": value}}),
            ("POST", "/api/source", {"content": self.random.randbytes(self.random.randrange(5000))}),
            ("POST", "/api/source", {"content": _PICTURE}),
            ("GET", f"/files/results/{value}/report.html", {}),
            ("POST", "/gradio_api/upload", {"files": {"files": (value or "x", b"x" * 100)}}),
        ))  # fmt: skip


_PICTURE = cv2.imencode(".jpg", np.full((2000, 3000, 3), 90, np.uint8))[1].tobytes()


def soak(cockpit: Cockpit, minutes: float, requests: int) -> bool:
    """Whether all went well; figures are printed."""
    base, seen = 10.0 if minutes >= 12 else minutes / 2, []
    with browser_page() as first, cockpit.client() as client:
        pages = [first, *(first.context.new_page() for _ in range(PAGES - 1))]
        for page in pages:
            page.goto(cockpit.way_in)
            page.wait_for_function("window.dmsynthCockpit?.steer?.steerer?.painted.length > 0", timeout=90_000)
            page.evaluate(_STEER)
        odd, begun, told = Odd(client, 0), time.monotonic(), 0.0
        while (now := (time.monotonic() - begun) / 60) < minutes:
            seen.append((now, memory(cockpit.process.pid)))
            if now - told >= 1:
                told = now
                print(f"{now:5.1f} min  {seen[-1][1]:7.1f} MB", flush=True)  # noqa: T201
            time.sleep(1)
        for _ in range(requests):  # not before: answers that nobody reads are kept for a while, and are no leak
            odd.ask()
        painted = [page.evaluate("window.painted") for page in pages]
        answers = client.get("/").status_code
    early = [size for at, size in seen if base - 1 <= at <= base] or [seen[0][1]]
    late = [size for at, size in seen if at >= minutes - 1]
    growth = float(np.mean(late) / np.mean(early) - 1)
    faults = "".join(f"\n  {fault}" for fault in odd.faults[:20])
    print(  # noqa: T201
        f"{minutes:g} minutes, {PAGES} pages that saw pictures {painted} times; "
        f"memory {np.mean(early):.0f} MB at minute {base:g}, {np.mean(late):.0f} MB at the end: {100 * growth:+.1f} %\n"
        f"{requests} odd requests: {dict(odd.statuses)}; {len(odd.faults)} faults{faults}"
    )
    return growth < 0.05 and not odd.faults and answers == 200 and all(painted)


if __name__ == "__main__":
    given = [float(text) for text in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder, running_cockpit(Path(folder) / "work") as running:
        sys.exit(not soak(running, given[0] if given else 60, int(given[1]) if len(given) > 1 else 2000))
