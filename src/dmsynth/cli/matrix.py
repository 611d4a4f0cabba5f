"""What scenarios are played in: options of the commands that play them, and what these options ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmsynth.support.errors import DmsynthError

if TYPE_CHECKING:
    from dmsynth.validation.matrix import Matrix
    from dmsynth.validation.scenarios import Scenario

CastName = Annotated[
    Path | None,
    typer.Option("--cast", help="Instead of --face: a .yaml file of several persons, who each play everything."),
]
Vary = Annotated[
    list[str] | None,
    typer.Option(
        "--vary",
        help="A matrix over light, place or camera, and occlusion or wear: 'light,occlusion', or one factor with its "
        "levels, 'camera=day,night'; may be given several times.",
    ),
]
Sample = Annotated[
    int | None,
    typer.Option("--sample", help="With --vary: play so many cells of the matrix, every level about equally often."),
]
SampleSeed = Annotated[int, typer.Option("--seed", help="Of the sample. Same seed, same cells.")]


def matrix_of(
    vary: list[str] | None, sample: int | None, seed: int, camera: str | None, wear: list[str] | None
) -> Matrix | None:
    """What ``--vary`` and ``--sample`` ask for; None without ``--vary``. ``DmsynthError`` for options that do not go
    together."""
    from dmsynth.validation.matrix import FACTORS, Matrix, parse_factors

    if not vary:
        if sample is not None:
            raise DmsynthError(f"--sample {sample}: samples a matrix; say with --vary what is varied")
        return None
    if seed < 0:
        raise DmsynthError(f"--seed {seed}: give a number from 0 on")
    factors = parse_factors(vary)
    for option, given, what in (("--camera", camera, "camera"), ("--wear", wear, "wear")):
        name = next((factor.name for factor in factors if FACTORS[factor.name] == what), None)
        if given and name:
            raise DmsynthError(f"{option} sets what --vary {name} varies; leave one of them out")
    return Matrix(factors, sample, seed)


def found_scenarios(names: list[str], camera: str | None, wear: list[str] | None) -> list[Scenario]:
    """The scenarios of these names, before ``--camera`` and with ``--wear``."""
    from dmsynth.camera import read_camera
    from dmsynth.camera.things import parse_things
    from dmsynth.validation.scenario_files import find_scenarios
    from dmsynth.validation.scenarios import Wearing

    taken_by = read_camera(camera) if camera else None
    worn = [Wearing.of(each) for each in parse_things(wear or [])]
    return [each.in_setting(taken_by, worn) for each in find_scenarios(names)]
