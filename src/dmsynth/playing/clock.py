"""The clock that a play runs by."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that never go back, since any moment; and waiting by them."""

    def now(self) -> float: ...

    def sleep_until(self, moment: float) -> None:
        """Return at ``moment``, or at once if it has passed."""
        ...


class MonotonicClock:
    """The system's monotonic clock: setting the time of day does not move it."""

    def now(self) -> float:
        return time.monotonic()

    def sleep_until(self, moment: float) -> None:
        remaining = moment - time.monotonic()
        if remaining > 0:
            time.sleep(remaining)
