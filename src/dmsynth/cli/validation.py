"""Scenarios, DMSs under test, version A against version B, and where a video comes from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dmsynth.cli.app import (
    VALIDATION,
    CameraName,
    Checkout,
    Device,
    Json,
    RendererName,
    TrackerModel,
    TrackerName,
    Wear,
    app,
    cast_specs,
    face_spec,
    given_command,
    output,
    print_json,
)
from dmsynth.cli.matrix import CastName, Sample, SampleSeed, Vary, found_scenarios, matrix_of
from dmsynth.support.errors import DmsynthError

if TYPE_CHECKING:
    from dmsynth.validation.compare import Comparison

scenario_app = typer.Typer(help="Scenarios: what the driver does, and what is expected of a DMS.", no_args_is_help=True)
app.add_typer(scenario_app, name="scenario", rich_help_panel=VALIDATION)

Face = Annotated[Path, typer.Option(help="face.safetensors of a training, or starter.")]
Names = Annotated[list[str], typer.Argument(help="all, a group, a name, a .yaml file or a folder of them.")]


@scenario_app.command("list")
def scenario_list(as_json: Json = False) -> None:
    """The scenarios that come along."""
    from dmsynth.validation.scenario_files import find_scenarios

    found = find_scenarios(["all"])
    headers = ("name", "group", "km/h", "seconds", "warnings", "title")
    rows = [
        (s.name, s.group, s.speed, s.seconds, None if s.warnings == "ignore" else len(s.windows), s.title)
        for s in found
    ]
    if as_json:
        print_json([dict(zip(headers, row, strict=True)) for row in rows])
        return
    shown = [(n, g, f"{v:g}", f"{t:.1f}", "–" if w is None else w, title) for n, g, v, t, w, title in rows]
    output.table(headers, shown)


@scenario_app.command("show")
def scenario_show(
    names: Names,
    out: Annotated[Path | None, typer.Option(help="Folder for a picture of each, NAME.png.")] = None,
    face: Annotated[Path | None, typer.Option(help="Show what this face does not cover.")] = None,
) -> None:
    """Draw scenarios: what is commanded, and when a warning is expected."""
    from dmsynth.report.scenario_figures import draw_scenario, scenario_in_text
    from dmsynth.steering import FaceSpec, open_renderer
    from dmsynth.validation.rendering import covered_frames
    from dmsynth.validation.scenario_files import find_scenarios

    steerable = open_renderer(FaceSpec.of(face)) if face else None
    for scenario in find_scenarios(names):
        output.print(f"{scenario.name}: {scenario.title}", style="bold")
        output.print(f"{scenario.speed:g} km/h. {scenario.source}", style="dim")
        for line in scenario_in_text(scenario):
            output.print(line)
        covered = covered_frames(scenario, steerable) if steerable else None
        if covered is not None:
            output.print(f"{int(covered.sum())} of {len(covered)} frames lie within the coverage of {face}")
        if out:
            draw_scenario(scenario, out / f"{scenario.name}.png", covered)
            output.print(f"picture: {out / scenario.name}.png")


@scenario_app.command("check")
def scenario_check(files: Annotated[list[Path], typer.Argument(help="Scenario files or folders.")]) -> None:
    """Say whether scenario files are right, and if not, where."""
    from dmsynth.validation.scenario_files import find_scenarios

    for scenario in find_scenarios([str(file) for file in files]):
        output.print(f"{scenario.name}: right, {scenario.seconds:g} s")


@scenario_app.command("render")
def scenario_render(
    names: Names,
    face: Face,
    out: Annotated[Path, typer.Option(help="Folder for the videos; those that are there are not rendered again.")],
    device: Device = "auto",
) -> None:
    """Render scenarios as videos of a face."""
    from dmsynth.steering import FaceSpec, open_renderer
    from dmsynth.support.progress import progress
    from dmsynth.validation.rendering import render, why_not
    from dmsynth.validation.scenario_files import find_scenarios

    scenarios, steerable = find_scenarios(names), open_renderer(FaceSpec.of(face, device))
    made = []
    with progress("rendering scenarios", len(scenarios)) as advance:
        for scenario in scenarios:
            if len(scenarios) == 1 or why_not(scenario, steerable) is None:
                made.append(render(scenario, steerable, out))
            advance()
    for scenario in scenarios:
        reason = why_not(scenario, steerable)
        if reason:
            output.print(f"{scenario.name}: {reason}")
    for rendered in made:
        outside = int((~rendered.table["covered"]).sum())
        note = f" ({outside} of {len(rendered.table)} frames outside the face's coverage)" if outside else ""
        output.print(f"{rendered.video}{note}")


@scenario_app.command("schema")
def scenario_schema() -> None:
    """Print the JSON schema of scenario files, for editors and other programs."""
    from dmsynth.validation.scenarios import Scenario

    typer.echo(json.dumps(Scenario.model_json_schema(), indent=2))


@app.command("validate", rich_help_panel=VALIDATION)
def validate_command(
    scenarios: Names,
    out: Annotated[Path, typer.Option(help="Folder for results and report; interrupted, it goes on.")],
    face: Annotated[Path | None, typer.Option(help="face.safetensors of a training, or starter.")] = None,
    cast: CastName = None,
    renderer: RendererName = "face",
    checkout: Checkout = None,
    source: Annotated[
        str | None,
        typer.Option(help="The picture that a renderer moves which has no face: a picture, VIDEO@N or DATASET@N."),
    ] = None,
    dms: Annotated[
        str,
        typer.Option(help="reference, one of your own, or a command line with {video} in it."),
    ] = "reference",
    dms_log: Annotated[
        Path | None, typer.Option(help="What the DMS answered elsewhere: a folder of SCENARIO.jsonl, or one file.")
    ] = None,
    dms_option: Annotated[
        list[str] | None, typer.Option(help="A setting of the DMS, NAME=VALUE; may be given several times.")
    ] = None,
    camera: CameraName = None,
    wear: Wear = None,
    vary: Vary = None,
    sample: Sample = None,
    seed: SampleSeed = 0,
    dms_name: Annotated[str | None, typer.Option(help="What the DMS is called in the evidence.")] = None,
    dms_version: Annotated[str | None, typer.Option(help="Its version, for the evidence.")] = None,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds that a program may take for one video.")] = 300,
    strict_output: Annotated[
        bool, typer.Option("--strict-output", help="Fail a DMS for a line of output that is no answer.")
    ] = False,
    pdf: Annotated[bool, typer.Option("--pdf", help="Print the report as report.pdf, too, by a Chromium.")] = False,
    videos: Annotated[
        Path | None, typer.Option(help="Where videos are kept, to be reused; default: the folder videos beside OUT.")
    ] = None,
    engine: Annotated[str, typer.Option(help="local, or ray.")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Scenarios at once; default: one a core.")] = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster's HOST:PORT, or auto.")] = None,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Run a DMS on scenarios and say whether it does its job. Exit code 1: it fails. 2: nothing can be judged."""
    from dmsynth.experiments.grid import Engine
    from dmsynth.experiments.validate import Order, validate
    from dmsynth.report.pdf import find_browser, print_as_pdf
    from dmsynth.steering import FaceSpec
    from dmsynth.validation.dms import DmsSpec

    if dms_log is not None and not dms_log.exists():
        raise DmsynthError(f"--dms-log {dms_log}: no such file or folder; check the path")
    log = None if dms_log is None else str(dms_log.resolve())
    options = dict(_setting(text) for text in dms_option or [])
    spec = DmsSpec(dms=dms, log=log, options=options, time_limit=time_limit, strict_output=strict_output)
    drivers: FaceSpec | dict[str, FaceSpec]
    if cast is None:
        drivers = face_spec(renderer, face, checkout, source, tracker, tracker_model, device)
    elif face is None and checkout is None and source is None and renderer == "face":
        drivers = cast_specs(cast, tracker, tracker_model, device)
    else:
        raise DmsynthError("--cast names the faces; leave out --face, --renderer, --liveportrait and --source")
    browser = find_browser() if pdf else None  # before long work, not after it
    matrix = matrix_of(vary, sample, seed, camera, wear)
    played = found_scenarios(scenarios, camera, wear)
    results = validate(
        played, drivers, spec, out, Order(given_command(), dms_name, dms_version), videos,
        Engine(engine, workers, address), matrix,
    )  # fmt: skip
    if browser:
        print_as_pdf(browser, out / "report.html", out / "report.pdf")
    if as_json:
        print_json(results)
    else:
        _print_results(results)
        output.print(f"report: {out / 'report.html'}")
    if results["summary"]["fail"]:
        raise typer.Exit(1)
    if not results["summary"]["pass"]:
        raise DmsynthError(f"nothing could be judged: every scenario is inconclusive; {out / 'report.html'} says why")


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise DmsynthError(f"--dms-option {text}: give NAME=VALUE")
    return name, value


def _wanted(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not (name and 0 < number < 1e6):
        raise DmsynthError(f"--wanted {text}: give FIGURE=NUMBER, such as 'yaw error=0.5'")
    return name, number


def _print_results(results: dict[str, Any]) -> None:
    colours = {"pass": "green", "fail": "red", "inconclusive": "yellow"}
    rows = []
    for scenario in results["scenarios"]:
        latencies = [warning["latency"] for warning in scenario["warnings"] if warning["latency"] is not None]
        in_words = ", ".join(f"{latency:.2f} s" for latency in latencies)
        who = (scenario["person"],) if "person" in scenario else ()
        who = (*who, ", ".join(scenario["factors"].values())) if "matrix" in results else who
        rows.append((*who, scenario["name"], scenario["outcome"], in_words, "; ".join(scenario["reasons"])))
    person = (*(["person"] if "persons" in results else []), *(["levels"] if "matrix" in results else []))
    output.table((*person, "scenario", "verdict", "latency", "why"), rows, colours)
    chatty = [scenario for scenario in results["scenarios"] if scenario["no_answers"]]
    if chatty:
        lines = sum(scenario["no_answers"] for scenario in chatty)
        told = (
            f"{lines} lines that it printed in {len(chatty)} scenarios are no answers and were not judged; the first: "
        )
        output.print(told + chatty[0]["first_no_answer"], style="yellow")
    if "matrix" in results:
        _print_by_factor(results["by_factor"])
    for each in results.get("persons", []):
        output.print(f"{each['name']}: {_counted(each['summary'])}")
    output.print(f"{results['dms']['name']}: {_counted(results['summary'])}")


def _print_by_factor(factors: list[dict[str, Any]]) -> None:
    from dmsynth.validation.factors import rate_in_words

    def number(value: float | None, digits: int, unit: str, times: float = 1.0) -> str:
        return "–" if value is None else f"{times * value:.{digits}f}{unit}"

    rows = [
        (
            factor["name"], level["level"], level["cells"], rate_in_words(level), level["inconclusive"],
            number(level["error"], 1, "°"), number(level["latency"], 2, " s"),
            number(level["availability"], 1, " %", 100), number(level["unavailable"], 1, " %", 100),
        )
        for factor in factors
        for level in factor["levels"]
    ]  # fmt: skip
    headers = ("factor", "level", "cells", "passes (95 % interval)", "inconclusive", "error", "latency", "available")
    output.table((*headers, "tells that it cannot see"), rows)
    for factor in factors:
        output.print(factor["in_words"])


def _counted(summary: dict[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in summary.items())


@app.command("compare", rich_help_panel=VALIDATION)
def compare_command(
    a: Annotated[Path, typer.Argument(help="Folder of the validation of version A, or its results.json.")],
    b: Annotated[Path, typer.Argument(help="The same of version B.")],
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    wanted: Annotated[
        list[str] | None,
        typer.Option(
            help="A difference to be seen, 'yaw error=0.5': how many persons and scenarios does it take? Of casts; may "
            "be given several times."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Is version B of a DMS better than version A? Paired on the same videos, with 95 % intervals."""
    from dmsynth.support.files import check_output, write_json
    from dmsynth.validation.compare import compare, read_results

    inputs = [path / "results.json" if path.is_dir() else path for path in (a, b)]
    if out and any(out.resolve() == path.resolve() for path in inputs):
        raise DmsynthError(f"--out {out}: is an input of this command; give the output another name")
    if out:
        check_output(out)
    comparison = compare(read_results(a), read_results(b), dict(_wanted(text) for text in wanted or []))
    if out:
        write_json(out, comparison.to_dict())
    if as_json:
        print_json(comparison.to_dict())
        return
    output.print(f"A: {comparison.a}\nB: {comparison.b}")
    rows = []
    for row in comparison.differences:
        interval = "–" if row.interval is None else f"{row.interval[0]:+.2f} … {row.interval[1]:+.2f}"
        rows.append((
            row.metric + (f" ({row.unit.strip()})" if row.unit else ""),
            f"{row.cast.persons} × {row.scenarios}" if row.cast else row.scenarios, f"{row.a:.2f}",
            f"{row.b:.2f}", f"{row.difference:+.2f}", interval, "–" if row.effect is None else f"{row.effect:+.2f}",
            f"{row.p:.4f}", f"{row.p_corrected:.4f}", row.verdict,
        ))  # fmt: skip
    output.table(("figure", "n", "A", "B", "B − A", "95 % interval", "effect", "p", "corrected", "B is"), rows)
    for sentence in (comparison.in_words(), *(row.in_words() for row in comparison.differences)):
        output.print(sentence)
    _print_by_level(comparison)
    if comparison.left_out:
        output.print(f"in one of them only, left out: {', '.join(comparison.left_out)}", style="yellow")


def _print_by_level(comparison: Comparison) -> None:
    """Of a matrix: pass rate and availability at every level, and what differs besides."""
    rows = []
    for place in comparison.by_level:
        for row in place.differences:
            if row.metric in ("pass rate", "availability") or row.verdict != "not distinguishable":
                interval = "–" if row.interval is None else f"{row.interval[0]:+.2f} … {row.interval[1]:+.2f}"
                rows.append((
                    f"{place.factor}: {place.level}", place.cells,
                    row.metric + (f" ({row.unit.strip()})" if row.unit else ""),
                    f"{row.a:.2f}", f"{row.b:.2f}", f"{row.difference:+.2f}", interval, f"{row.p_corrected:.4f}",
                    row.verdict,
                ))  # fmt: skip
    if rows:
        output.table(("level", "cells", "figure", "A", "B", "B − A", "95 % interval", "corrected", "B is"), rows)
        for sentence in comparison.by_factor_in_words():
            output.print(sentence)


@app.command("edit", rich_help_panel=VALIDATION)
def edit_command(
    drive: Annotated[Path, typer.Argument(help="A recorded drive that shows one driver.")],
    begin: Annotated[float, typer.Option("--from", min=0, help="Seconds at which the edit begins …")],
    end: Annotated[float, typer.Option("--to", min=0, help="… and ends.")],
    out: Annotated[Path, typer.Option(help="Video to write, .mp4; its table goes beside it.")],
    face: Annotated[
        Path | None, typer.Option(help="A face trained on this driver; without, only eyes, mouth and brows move.")
    ] = None,
    scenario: Annotated[str | None, typer.Option(help="What the driver does instead: a name or a .yaml file.")] = None,
    trajectory: Annotated[
        str | None, typer.Option(help="The same in motions or as a table: 'move eye_opening=0 0.3; hold 2'.")
    ] = None,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
    device: Device = "auto",
) -> None:
    """Make the driver of a recording look away inside a window of time; frames outside it stay bit-identical."""
    from dmsynth.controls import CONTROL_SPACES
    from dmsynth.motion.driving import read_trajectory
    from dmsynth.steering import load_face
    from dmsynth.steering.editing import edit_video
    from dmsynth.steering.writing import check_not_input
    from dmsynth.support.files import check_output
    from dmsynth.trackers import open_tracker
    from dmsynth.validation.scenario_files import find_scenarios

    check_not_input(out, [str(drive), scenario, trajectory])
    check_output(out)
    pool = open_tracker(tracker, tracker_model)
    if (scenario is None) == (trajectory is None):
        raise DmsynthError("give --scenario or --trajectory: what the driver does instead")
    if scenario is not None:
        motions = find_scenarios([scenario])
        if len(motions) != 1:
            raise DmsynthError(f"--scenario {scenario}: names {len(motions)} scenarios; give one")
        motion = motions[0].trajectory()
    else:
        motion = read_trajectory(str(trajectory), CONTROL_SPACES["driver"], 100.0, lambda: pool)
    table = edit_video(drive, load_face(face, device) if face else None, motion, begin, end, out, pool)
    edited = table[table["edited"]]
    outside = int((~edited["covered"].astype(bool)).sum())
    output.print(f"video: {out}\ntable: {out.with_suffix('.parquet')}")
    output.print(f"{len(edited)} of {len(table)} frames edited")
    if outside:
        output.print(
            f"{outside} of them command poses outside what the face was trained on, or eyes that look unnatural",
            style="yellow",
        )


@app.command("provenance", rich_help_panel=VALIDATION)
def provenance_command(
    video: Annotated[Path, typer.Argument(help="A video.")],
    as_json: Json = False,
) -> None:
    """Where a synthetic video comes from, as it says itself."""
    from dmsynth.steering.provenance import read_provenance

    found = read_provenance(video)
    if as_json:
        print_json({"video": str(video), "said_in": list(found.where), "doubts": list(found.doubts)}
                   | {"provenance": asdict(found.provenance)})  # fmt: skip
        return
    output.print(f"{video}: {found.provenance.in_words()}")
    output.print(f"said in: {' and '.join(found.where)}")
    for doubt in found.doubts:
        output.print(f"but {doubt}", style="yellow")
