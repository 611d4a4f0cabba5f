"""The thesis's claims about its rotation model (4.1, 4.2, 4.2.1), each as a statistic with a threshold.

Claims about a model are judged for each drive; those about LivePortrait are undecided if it did not run.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dmsynth.experiments.rotation_drives import SPACE, Material
from dmsynth.experiments.rotation_judging import Judged
from dmsynth.report.study import Finding

CENTRED = 5.0  # degrees: largest distance of a median from 0
CLOSELY = 0.9  # correlation at least
CLOSE = 1.0  # degrees between two models' mean errors, at most
ROBUST = 0.05  # of the faces lost, at most
BLURRED = 0.7  # of the real frames' sharpness, at most
MINUTE = 60.0  # seconds
EXACT = 2.0  # degrees: our own requirement for SwapWarp
BLOCK = 15  # frames, about half a second
DID_NOT_RUN = "LivePortrait did not run"
ELSEWHERE = "LivePortrait's video was made elsewhere"


def findings(material: Material, drives: dict[str, Judged]) -> list[Finding]:
    """The thesis's claims, and our own requirements for SwapWarp."""
    result = [_centred(material)]
    for name, judged in drives.items():
        result += _of_drive(f" ({name})" if len(drives) > 1 else "", judged)
    return result


def _centred(material: Material) -> Finding:
    filmed = ~material.dataset.posed
    middle = np.median(material.dataset.controls(SPACE)[filmed], axis=0)
    return Finding(
        "Distributions of pitch, yaw and roll are centred around 0°",
        "4.1, Fig. 4.2",
        f"medians of the frames that were not posed from others; at most {CENTRED:g}° from 0",
        " / ".join(f"{value:+.1f}°" for value in middle),
        bool((np.abs(middle) <= CENTRED).all()),
    )


def _of_drive(where: str, judged: Judged) -> Iterator[Finding]:
    portraits = [title for title in judged.columns if title.startswith("LivePortrait") and judged.drawn[title]]
    for title in ["rotation model", *(portraits or ["LivePortrait"])]:
        yield _follows(where, judged, title)
        yield _ordered(where, judged, title)
    yield _alike(where, judged, portraits)
    yield _blurred(where, judged)
    yield _sharper(where, judged, portraits)
    yield _robust(where, judged)
    yield _seconds(where, judged, portraits)
    yield _leaner(where, judged, portraits)
    for title in ("SwapWarp", "SwapWarp, own sources"):
        yield _exact(where, judged, title)
    yield _second_judge(where, judged)


def _mae(judged: Judged, title: str, inside: bool = False) -> list[float] | None:
    if judged.drawn.get(title) is None:
        return None
    said = judged.against_driver(title, judged.covered if inside else None)
    values = [said["mae"][name] for name in SPACE.names]
    return None if None in values else [float(value) for value in values]


def _text(figures: list[float] | None) -> str:
    return "–" if figures is None else " / ".join(f"{value:.2f}" for value in figures)


def _follows(where: str, judged: Judged, title: str) -> Finding:
    claim, statistic = (
        f"{title} follows the driving rotation closely{where}",
        f"correlation with the driver on every axis; at least {CLOSELY:g}",
    )
    if judged.drawn.get(title) is None:
        return Finding(claim, "4.2.1, Fig. 4.4", statistic, DID_NOT_RUN, None)
    values = list(judged.against_driver(title)["correlation"].values())
    measured = " / ".join("–" if value is None else f"{value:.2f}" for value in values)
    return Finding(claim, "4.2.1, Fig. 4.4", statistic, measured, all(v is not None and v >= CLOSELY for v in values))


def _ordered(where: str, judged: Judged, title: str) -> Finding:
    claim = f"{title}: tracking is best for roll, then pitch, then yaw{where}"
    statistic = "mean error of roll below pitch's, pitch's below yaw's; pitch / yaw / roll"
    errors = _mae(judged, title)
    if errors is None:
        return Finding(claim, "4.2.1", statistic, DID_NOT_RUN if judged.drawn.get(title) is None else "–", None)
    return Finding(claim, "4.2.1", statistic, _text(errors) + "°", errors[2] < errors[0] < errors[1])


def _alike(where: str, judged: Judged, portraits: list[str]) -> Finding:
    claim = f"The rotation model and LivePortrait are close to each other in rotation{where}"
    statistic = f"difference of their mean errors on every axis; at most {CLOSE:g}°"
    ours, theirs = _mae(judged, "rotation model"), _mae(judged, portraits[0]) if portraits else None
    if ours is None or theirs is None:
        return Finding(claim, "4.2.1, 6", statistic, "no face found" if portraits else DID_NOT_RUN, None)
    apart = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    return Finding(claim, "4.2.1, 6", statistic, _text(apart) + "°", max(apart) <= CLOSE)


def _blurred(where: str, judged: Judged) -> Finding:
    sharp = judged.looks["rotation model"]["sharpness"]
    return Finding(
        f"The rotation model blurs details within the face{where}",
        "4.2.1, Fig. 4.3",
        f"sharpness of the face, 1 is the real test frames'; below {BLURRED:g}",
        "no face found" if sharp is None else f"{sharp:.2f}",
        None if sharp is None else sharp < BLURRED,
    )


def _sharper(where: str, judged: Judged, portraits: list[str]) -> Finding:
    claim, statistic = (
        f"LivePortrait is sharper than the rotation model{where}",
        "sharpness of the face; above the rotation model's",
    )
    ours = judged.looks["rotation model"]["sharpness"]
    theirs = judged.looks[portraits[0]]["sharpness"] if portraits else None
    if ours is None or theirs is None:
        return Finding(claim, "4.2.1, 6", statistic, DID_NOT_RUN if not portraits else "no face found", None)
    return Finding(claim, "4.2.1, 6", statistic, f"{theirs:.2f} against {ours:.2f}", theirs > ours)


def _robust(where: str, judged: Judged) -> Finding:
    seen = int(judged.driver.table["found"].sum())
    lost = judged.against_driver("rotation model")["lost"]
    return Finding(
        f"The tracker is robust to the rotation model's defects{where}",
        "4.2.1",
        f"share of faces it loses; at most {100 * ROBUST:g} %",
        f"{lost} of {seen}",
        lost <= ROBUST * seen,
    )


def _seconds(where: str, judged: Judged, portraits: list[str]) -> Finding:
    claim = f"Seconds for the rotation model, minutes for LivePortrait{where}"
    statistic = f"time to draw the driver's frames; below and above {MINUTE:g} s"
    ours = judged.drawn["rotation model"]
    theirs = judged.drawn[portraits[0]] if portraits else None
    assert ours is not None and ours.seconds is not None
    if theirs is None or theirs.seconds is None:
        why = DID_NOT_RUN if theirs is None else ELSEWHERE
        return Finding(claim, "4.2", statistic, f"{ours.seconds:.1f} s; {why}", None)
    measured = f"{ours.seconds:.1f} s against {theirs.seconds:.0f} s"
    return Finding(claim, "4.2", statistic, measured, ours.seconds < MINUTE < theirs.seconds)


def _leaner(where: str, judged: Judged, portraits: list[str]) -> Finding:
    claim, statistic = (
        f"The rotation model is a lot leaner than LivePortrait{where}",
        "number of parameters; at most a quarter",
    )
    ours = judged.drawn["rotation model"]
    theirs = judged.drawn[portraits[0]] if portraits else None
    assert ours is not None and ours.parameters is not None
    if theirs is None or theirs.parameters is None:
        why = DID_NOT_RUN if theirs is None else ELSEWHERE
        return Finding(claim, "4.2.1", statistic, f"{ours.parameters / 1e6:.1f} M; {why}", None)
    measured = f"{ours.parameters / 1e6:.1f} M against {theirs.parameters / 1e6:.1f} M"
    return Finding(claim, "4.2.1", statistic, measured, 4 * ours.parameters <= theirs.parameters)


def _exact(where: str, judged: Judged, title: str) -> Finding:
    errors = _mae(judged, title, inside=True)
    inside = int(judged.covered.sum())
    return Finding(
        f"{title} follows the driver within the training coverage{where}",
        "asked of it here",
        f"mean error on every axis of the {inside} frames in coverage; at most {EXACT:g}°",
        _text(errors) + "°",
        None if errors is None else max(errors) <= EXACT,
    )


def _second_judge(where: str, judged: Judged) -> Finding:
    claim = f"A real DMS's tracker is no further from the command on SwapWarp's frames than on real ones{where}"
    statistic = (
        "its distance on a drawn frame less that on a real one of the same person and pose, mean and 95 % interval "
        f"(bootstrap of blocks of {BLOCK} frames); the interval reaches 0 or lies below"
    )
    both = judged.second_error("SwapWarp, own sources")
    if both is None:
        why = "no second judge" if judged.second is None else "too few real frames in the driver's poses"
        return Finding(claim, "5", statistic, why, None)
    further = both[1] - both[0]
    low, high = block_interval(further)
    measured = " / ".join(
        f"{mean:+.2f} ({a:+.2f} to {b:+.2f})" for mean, a, b in zip(further.mean(axis=0), low, high, strict=True)
    )
    return Finding(claim, "5", statistic, f"{measured}°, {len(further)} frames", bool((low <= 0).all()))


def block_interval(values: NDArray[np.float64], draws: int = 2000) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % interval (k,), (k,) of the mean of the time series ``values`` (n, k): neighbours are correlated, so blocks
    are resampled, not frames (block bootstrap, Künsch 1989)."""
    block = min(BLOCK, len(values))
    random = np.random.default_rng(0)
    starts = random.integers(0, len(values) - block + 1, size=(draws, -(-len(values) // block)))
    rows = (starts[..., None] + np.arange(block)).reshape(draws, -1)[:, : len(values)]
    low, high = np.quantile(values[rows].mean(axis=1), (0.025, 0.975), axis=0)
    return low, high
