"""The page of a GPU, from what its parts have left in their folders, whatever became of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from dmsynth.controls import HEAD
from dmsynth.experiments.gpu_parts import (
    FOUND,
    PARTS,
    SIZES,
    STEERED,
    TIME,
    Given,
    Size,
    draw_positions,
    picture_of,
)
from dmsynth.experiments.gpu_sharing import best_count, steps_of, whole_hours
from dmsynth.experiments.grid import Engine
from dmsynth.experiments.in_turn import state_of
from dmsynth.report.gpu_figures import draw_sharing
from dmsynth.report.position_figures import NOTES
from dmsynth.report.study import Picture, StudyReport, write_study_report
from dmsynth.support.files import read_json, write_json

GOAL = 45.0  # minutes, for all of chapter 3 at the thesis's size on one H100
_CURVES = {"SPE": "3.17", "SD": "3.20"}
_NEVER = "not begun"


def write_page(out: Path) -> Path:
    """Write ``report.md``, ``report.html`` and ``figures.json`` of the parts in ``out``; returns the first."""
    about = read_json(out / "about.json")
    size = SIZES[about["preset"]]
    parts = {name: state_of(out, name) or {"state": _NEVER, "why": ""} for name in PARTS}
    found = {name: _read(out / name / FOUND) for name in PARTS}
    cells, rows = _cells(out / "position", size), found["sharing"].get("rows", [])
    whole = _whole(size, rows, cells)
    write_json(
        out / "figures.json",
        about | {"parts": parts, "found": found, "chapter_3": cells, "whole_of_chapter_3": whole},
    )
    tables = {
        "Parts": _parts(parts),
        "Trainings at once: SPE, steps a second": _sharing(rows),
        f"All of chapter 3 as in the preset {_whole_name(about)}, extrapolated": _whole_table(whole),
        "Chapter 3: trained, and steered to random places": _positions(cells),
        "Rotation model and SwapWarp, judged by the tracker": _judged(found),
        "SwapWarp steered: frames a second": _speed(found["swapwarp"].get("speed", [])),
    }
    report = StudyReport(
        title="What matters on this device" + (" (smoke: far too small to mean anything)" if size.steps else ""),
        summary="Every figure was measured on this device, part by part; a dash stands where there is none.",
        findings=[],
        pictures=_pictures(out, about, rows),
        tables={title: table for title, table in tables.items() if len(table)},
        facts=_facts(about),
        command=about["command"],
    )
    write_study_report(out, report)
    return out / "report.md"


def _read(path: Path) -> dict[str, Any]:
    """A JSON file, or nothing where there is none."""
    return read_json(path) if path.is_file() else {}


def _cells(folder: Path, size: Size) -> list[dict[str, Any]]:
    """What there is of each training of chapter 3: all of it, or the last losses of one that did not end."""
    cells = []
    for cell in size.study.cells():
        here = folder / "cells" / cell.name
        found: dict[str, Any] = asdict(cell) | _read(here / "result.json") | _read(here / TIME)
        if "epochs" not in found and (here / "curves.csv").is_file():
            last = pd.read_csv(here / "curves.csv").iloc[-1]
            found |= {"epochs": round(last["epoch"])} | {name: float(last[name]) for name in last.index if "/" in name}
        cells.append(found)
    return cells


def _whole(size: Size, rows: list[dict[str, Any]], cells: list[dict[str, Any]]) -> dict[str, Any]:
    """How long the whole of chapter 3 takes, by the steps alone and as the cells were trained; in hours, or None."""
    steps = sum(steps_of(size.whole).values())
    timed = [cell for cell in cells if "seconds" in cell]
    hours = None
    if timed and len(timed) == len(cells):  # some wait for others where not all fit at once
        rate = sum(cell["steps"] / cell["seconds"] for cell in cells) * min(1.0, Engine().at_once / len(cells))
        hours = steps / rate / 3600
    memory = [row["memory_gib"] for row in rows if "memory_gib" in row]
    return {
        "steps": steps,
        "at_once": best_count(rows),
        "hours_by_steps": whole_hours(size.whole, rows),
        "hours_as_trained": hours,
        "peak_memory_gib": max(memory, default=None),
        "goal_minutes": GOAL,
    }


def _parts(parts: dict[str, dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "part": PARTS[name].title,
            "state": part["state"],
            "seconds": _text(part.get("seconds"), ".0f"),
            "of at most": _text(part.get("budget"), ".0f"),
            "why": part["why"] or "–",
        }
        for name, part in parts.items()
    )


def _sharing(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "at once": row["at_once"],
            "dimensions": row["latent"],
            "all together": _text(row.get("steps_per_second"), ".1f"),
            "each": _text(row["steps_per_second"] / row["at_once"], ".1f") if "steps_per_second" in row else "–",
            "memory (GiB)": _text(row.get("memory_gib"), ".1f"),
            "why not": row.get("why", "–"),
        }
        for row in rows
    )


def _whole_name(about: dict[str, Any]) -> str:
    return "thesis" if about["preset"] == "full" else str(about["preset"])


def _whole_table(whole: dict[str, Any]) -> pd.DataFrame:
    """Empty without any figure."""
    by = {
        f"steps alone, {whole['at_once']} at once, every latent size at its own rate": whole["hours_by_steps"],
        "as trained below, with validation and all": whole["hours_as_trained"],
    }
    rows = [(how, hours) for how, hours in by.items() if hours is not None]
    return pd.DataFrame(
        {
            "by": how,
            "steps": f"{whole['steps']:,}",
            "minutes": f"{60 * hours:.1f}",
            "goal, on one H100 (minutes)": f"{GOAL:.0f}",
            "memory (GiB)": _text(whole["peak_memory_gib"], ".1f"),
        }
        for how, hours in rows
    )


def _positions(cells: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": cell["objective"],
            "dimensions": cell["latent"],
            "epochs": cell["epochs"],
            "steps a second": _text(cell["steps"] / cell["seconds"], ".1f") if "seconds" in cell else "–",
            "swap loss": _text(cell.get("validation/swap"), ".2e"),
            "position loss": _text(cell.get("validation/control"), ".2e"),
            "gain x": _text(cell.get("gain_x"), ".3f"),
            "gain y": _text(cell.get("gain_y"), ".3f"),
            "control error (px)": _text(cell.get("control_error"), ".2f"),
            "faces not found": _text(cell.get("no_face"), ".0f"),
        }
        for cell in cells
        if "epochs" in cell
    )


def _judged(found: dict[str, dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": name,
            "steps": metrics["steps"],
            "batch": metrics["batch"],
            "seconds": _text(metrics["train_seconds"], ".0f"),
            "precision": metrics["precision"],
            "error, pitch / yaw / roll (°)": _three(metrics["mae"], ".2f"),
            "correlation": _three(metrics["correlation"], ".3f"),
            "faces lost": f"{metrics['lost']} of {metrics['frames']}",
            "PSNR (dB)": _text(metrics["psnr"], ".1f"),
            "sharpness": _text(metrics["sharpness"], ".2f"),
        }
        for name in ("rotation", "swapwarp")
        if "mae" in (metrics := found[name])
    )


def _speed(speed: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "size": "{}×{}".format(*row["size"]),
            "drawn": row["drawn"],
            "drawn and encoded (H.264)": row["drawn_and_encoded"],
        }
        for row in speed
    )


def _pictures(out: Path, about: dict[str, Any], rows: list[dict[str, Any]]) -> list[Picture]:
    """Those that there are, in the order of the parts; what needs no network is drawn now."""
    size = SIZES[about["preset"]]
    drawn: list[tuple[Path, str, str]] = []
    parts = rows[: len(size.at_once)], rows[len(size.at_once) :]
    shared, others = ([row for row in part if "steps_per_second" in row] for part in parts)
    if shared:
        best = [row for row in shared if row["at_once"] == best_count(rows)]
        path = out / "sharing" / "sharing.png"
        draw_sharing(shared, sorted([*best, *others], key=lambda row: row["latent"]), path)
        drawn.append((path, "Steps a second by number of trainings at once, and by latent size.", ""))
    given = Given(out, "position", size, about["seed"], 0)
    curves = [number for objective, number in _CURVES.items() if _has_curves(given, objective)]
    if curves:
        draw_positions(given, curves)
    drawn += [(picture_of(given.folder, number), *NOTES[number]) for number in (*curves, *STEERED)]
    above = "held-out poses, posed above and steered below."
    drawn.append((out / "rotation" / "faces.png", f"Rotation model: {above}", ""))
    drawn.append((out / "swapwarp" / "faces.png", f"SwapWarp: {above}", ""))
    for width, height in size.drawn:
        shows = f"SwapWarp steered at {width}×{height}, yaw from one side to the other, at half its size."
        drawn.append((out / "swapwarp" / f"{width}x{height}.png", shows, ""))
    there = [each for each in drawn if each[0].is_file()]
    return [Picture(str(number), *each) for number, each in enumerate(there, 1)]


def _has_curves(given: Given, objective: str) -> bool:
    cells = [cell for cell in given.size.study.cells() if cell.objective == objective]
    return any((given.folder / "cells" / cell.name / "curves.csv").is_file() for cell in cells)


def _facts(about: dict[str, Any]) -> dict[str, str]:
    machine = about["machine"]
    versions = ("driver", "cuda", "cudnn", "torch", "python")
    tf32 = {True: "TF32", False: "float32"}
    products = f"convolutions in {tf32[torch.backends.cudnn.allow_tf32]} on a GPU"
    products += f", matrix products in {tf32[torch.backends.cuda.matmul.allow_tf32]}"
    return {
        "device": machine.get("accelerator") or f"no GPU: {machine['cores']} cores, {machine['processor']}",
        "host": f"{machine['cores']} cores, {machine['processor']}, {machine.get('memory_gib', '–')} GiB",
        "versions": ", ".join(f"{name} {machine[name]}" for name in versions if name in machine),
        "precision": f"chapter 3: 32-true ({products}); rotation model and SwapWarp: as `train` chooses, in the table",
        "date": about["date"],
        "seed": str(about["seed"]),
        "faces": "the embedded portrait: Eileen Collins, photographed by NASA, public domain",
    }


def _three(values: dict[str, float | None], form: str) -> str:
    return " / ".join(_text(values[name], form) for name in HEAD)


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
