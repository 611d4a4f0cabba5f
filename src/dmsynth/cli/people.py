"""Synthetic people: a cast of persons who do not exist."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dmsynth.cli.app import (
    FACES,
    Json,
    SecondTracker,
    SecondTrackerModel,
    Seed,
    TrackerModel,
    TrackerName,
    app,
    cast_specs,
    output,
    print_json,
)  # fmt: skip

people_app = typer.Typer(help="A cast of persons who do not exist.", no_args_is_help=True)
app.add_typer(people_app, name="people", rich_help_panel=FACES)

Count = Annotated[int, typer.Option(help="How many, 1 to 24. The first twelve were chosen for being unlike.")]


@people_app.command("make")
def people_make(
    out: Annotated[Path, typer.Option(help="Folder to make, for the pictures and cast.yaml.")],
    count: Count = 12,
    seed: Seed = 0,
    tracker_model: TrackerModel = None,
) -> None:
    """Draw portraits of persons who do not exist, say what each is made from, and name them as a cast."""
    from dmsynth.datasets.synthetic_people import make_people
    from dmsynth.trackers import open_tracker

    cast = make_people(out, open_tracker(model=tracker_model), count, seed)
    output.print(f"cast: {cast} ({count} synthetic persons and two real ones)")


@people_app.command("list")
def people_list(count: Count = 12, as_json: Json = False) -> None:
    """Who there is: how they look, on what terms their pictures come, and what these are made from."""
    from dmsynth.datasets.synthetic_people import persons

    people = persons(count)
    if as_json:
        print_json([asdict(person) for person in people])
        return
    output.table(("person", "looks", "consent"), [(each.name, each.looks, each.consent) for each in people])
    for source, licence in dict.fromkeys((each.source, each.licence) for each in people):
        names = ", ".join(each.name for each in people if each.source == source)
        output.print(f"{names}: {licence}; {source}")


@people_app.command("check")
def people_check(
    cast: Annotated[Path, typer.Argument(help="The cast's file, such as people/cast.yaml.")],
    out: Annotated[Path, typer.Option(help="File to write, .json.")],
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
    second_tracker: SecondTracker = "auto",
    second_tracker_model: SecondTrackerModel = None,
    as_json: Json = False,
) -> None:
    """Are the persons of a cast found, do two judges follow them, and are they unlike each other?"""
    from dmsynth.evaluation.people import check_people
    from dmsynth.support.files import check_output, write_json
    from dmsynth.trackers import open_second_tracker, open_tracker

    check_output(out)
    pool = open_tracker(tracker, tracker_model)
    second = open_second_tracker(pool, second_tracker, second_tracker_model)
    found = check_people(cast_specs(cast, tracker, tracker_model), pool, second)
    write_json(out, found)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            name, judge, f"{told['frames']} of {found['poses']['frames']}",
            *(" / ".join("–" if value is None else f"{value:.2f}" for value in told[key].values())
              for key in ("correlation", "gain", "mae")),
        )
        for name, judges in found["persons"].items()
        for judge, told in judges.items()
    ]  # fmt: skip
    output.table(("person", "judge", "found", "correlation", "gain", "mean error (°)"), rows)
    for measure, told in found["likeness"].items():
        if told is None:
            output.print(f"{measure}: not measured; pip install dlib-bin face_recognition_models")
            continue
        own, nearest = told["own"].values(), told["others"][0]
        output.print(
            f"{measure}: own frames {min(own):.2f} to {max(own):.2f}; the most alike of {len(told['others'])} pairs, "
            f"{' and '.join(nearest['persons'])}, {nearest['value']:.2f}: {'apart' if told['apart'] else 'not apart'}"
        )
