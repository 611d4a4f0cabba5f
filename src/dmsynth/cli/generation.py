"""Labelled frames in bulk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmsynth.cli.app import FACES, app, output
from dmsynth.support.errors import DmsynthError

if TYPE_CHECKING:
    from dmsynth.generation.plan import Order
    from dmsynth.generation.verify import Verified


@app.command("generate", rich_help_panel=FACES)
def generate_command(
    plan: Annotated[Path | None, typer.Argument(help="A plan, .yaml.")] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Folder for the frames, or an address such as s3://…; interrupted, it goes on."),
    ] = None,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Say what would come, how large and how long, and draw a short sample only.")
    ] = False,
    verify: Annotated[
        str | None, typer.Option(help="In place of a plan: check the frames there; exit code 2 if wrong.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of plans.")] = False,
    engine: Annotated[str, typer.Option(help="local, or ray.")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Shards at once; default: one a core.")] = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster's HOST:PORT, or auto.")] = None,
) -> None:
    """Make labelled frames in bulk, for training: people, cameras, things and motions by a plan."""
    from dmsynth.experiments.grid import Engine
    from dmsynth.generation.generate import generate
    from dmsynth.generation.plan import Plan, read_plan
    from dmsynth.generation.verify import verify as verified
    from dmsynth.trackers import open_tracker

    if schema:
        typer.echo(json.dumps(Plan.model_json_schema(), indent=2))
        return
    if verify is not None:
        _print_verified(verified(verify, open_tracker()))
        return
    if plan is None:
        raise DmsynthError("give a plan, such as `dmsynth generate plan.yaml --out frames`; docs/generate.md has one")
    runs = Engine(engine, workers, address)
    if only_plan:
        _print_plan(read_plan(plan), runs.at_once)
        return
    if out is None:
        raise DmsynthError("--out: name the folder for the frames, or give --plan to see what would come")
    made = generate(plan, out, runs)
    output.print(f"{made.frames} frames in {made.clips} clips, {made.shards} shards, {made.bytes_ / 1e9:.3g} GB")
    output.print(f"card: {made.out.rstrip('/')}/README.md")


def _print_plan(order: Order, workers: int) -> None:
    from dmsynth.generation.checks import check
    from dmsynth.generation.design import Design
    from dmsynth.generation.estimate import estimate

    people, design = check(order), Design(order)
    sample = estimate(order)
    named = (
        ("person", list(order.people), "person"), ("motion", list(order.motions), "motion"),
        ("camera", list(order.cameras), "camera"), ("things", [each.name for each in order.plan.things], "things"),
    )  # fmt: skip
    for title, names, level in named:
        counts = design.counted(sample.clips, level)
        output.table((title, "clips"), [(name, counts[at]) for at, name in enumerate(names)])
    rows = [
        (name, *(f"{each.covers[axis][0]:.0f} … {each.covers[axis][1]:.0f}" for axis in ("pitch", "yaw", "roll")))
        for name, each in people.items()
    ]
    output.table(("covers, °", "pitch", "yaw", "roll"), rows)
    output.print(
        f"{sample.frames} frames in {sample.clips} clips: about {sample.gigabytes:.3g} GB and "
        f"{sample.hours(workers):.3g} hours with {workers} workers (by a sample, "
        f"{sample.frames_a_second:.1f} frames a second of one)"
    )


def _print_verified(found: Verified) -> None:
    output.print(
        f"{found.frames} frames in {found.clips} clips, {found.shards} shards; "
        f"labels of {found.looked_at} clips looked at"
    )
    if found.found:
        errors = ", ".join(f"{error:.2f}° in {name}" for name, error in found.errors.items())
        output.print(
            f"tracked again: a face in {found.found} of {found.tracked} frames; mean difference "
            f"from the label {errors}; nose {100 * found.off:.1f} % of the face's width away"
        )
    for each in found.wrong:
        output.print(each, style="red")
    if found.wrong:
        more = f" (and {len(found.wrong) - 1} more)" if found.wrong[1:] else ""
        raise DmsynthError(f"wrong: {found.wrong[0]}{more}")
