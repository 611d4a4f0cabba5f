"""The demo, the starter face, the bench, and the thesis's experiments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmsynth.cli.app import (
    FACES,
    MAINTAINERS,
    RESEARCH,
    Checkout,
    SecondTracker,
    SecondTrackerModel,
    Seed,
    TrackerModel,
    TrackerName,
    app,
    duration_of,
    given_command,
    output,
    print_metrics,
)

if TYPE_CHECKING:
    from dmsynth.report.study import StudyReport

reproduce_app = typer.Typer(help="Repeat the thesis's experiments.", no_args_is_help=True)
app.add_typer(reproduce_app, name="reproduce", rich_help_panel=RESEARCH)


@app.command("demo", rich_help_panel=FACES)
def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("runs/demo"),
    photo: Annotated[Path | None, typer.Option(help="A portrait; default: a public-domain one.")] = None,
    frames: Annotated[int, typer.Option(min=36, help="How many poses to train and test on.")] = 900,
    train_time: Annotated[str | None, typer.Option(help="How long to train; default: 500 steps.")] = None,
    begin: Annotated[str, typer.Option("--from", help="The face that training begins from, or nothing.")] = "starter",
    seed: Seed = 0,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
    second_tracker: SecondTracker = "auto",
    second_tracker_model: SecondTrackerModel = None,
) -> None:
    """From one portrait to a steered, tracked video with a report, in about two minutes on two cores."""
    from dmsynth.experiments.demo import DemoSize, demo
    from dmsynth.trackers import open_second_tracker, open_tracker

    duration = duration_of(train_time)
    pool = open_tracker(tracker, tracker_model)
    second = open_second_tracker(pool, second_tracker, second_tracker_model)
    size = DemoSize(
        frames=frames,
        begin=None if begin == "nothing" else Path(begin),
        train_seconds=duration.total_seconds() if duration else None,
    )
    metrics = demo(out, pool, photo, size, seed, second, given_command())
    print_metrics(metrics)
    output.print(f"report: {out / 'report.html'}\nvideo:  {out / 'steered.mp4'}")


@app.command("starter", rich_help_panel=MAINTAINERS)
def starter_command(
    out: Annotated[Path, typer.Option(help="File to write, .safetensors.")],
    folder: Annotated[Path, typer.Option(help="Where to work; an interrupted training in it goes on.")],
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Train the face that dmsynth comes with anew, from its portrait."""
    from dmsynth.experiments.starter import make_starter
    from dmsynth.trackers import open_tracker

    output.print(f"face: {make_starter(out, folder, open_tracker(tracker, tracker_model))}")


@app.command("bench", rich_help_panel=MAINTAINERS)
def bench_command(
    out: Annotated[Path, typer.Option(help="Folder for bench.json.")] = Path("runs/bench"),
    race: Annotated[bool, typer.Option(help="Train the thesis's model and SwapWarp for the same times, too.")] = True,
    loaded: Annotated[
        bool, typer.Option("--loaded", help="Measure steering and training beside a busy process on each core, too.")
    ] = False,
    liveportrait: Annotated[
        Path | None,
        typer.Option(help="LivePortrait's official checkout: measure its networks against ours, nothing else."),
    ] = None,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Measure the speed of each stage, and how long learning takes, in one run: a quarter of an hour."""
    from dmsynth.experiments.bench import RACE, bench
    from dmsynth.experiments.bench_liveportrait import bench_liveportrait
    from dmsynth.support.files import write_json
    from dmsynth.trackers import open_tracker

    if liveportrait is not None:
        result = bench_liveportrait(liveportrait, open_tracker(tracker, tracker_model))
        write_json(out / "liveportrait.json", result)
        drawn = result["milliseconds"].items()
        rows = [(name, f"{ms:.1f}", f"{result['times_swapwarp'][name]:.1f}") for name, ms in drawn]
        output.table(("one frame of 512×512, colour", "ms", "times SwapWarp's"), rows)
        output.print(f"LivePortrait's weights: {result['weights']}; written to {out / 'liveportrait.json'}")
        return
    result = bench(open_tracker(tracker, tracker_model), out, RACE if race else (), loaded)
    write_json(out / "bench.json", result)
    rates = result["images_per_second"].items()
    title = f"at {result['size'][0]}×{result['size'][1]}"
    output.table((title, "a second", "ms each"), [(name, f"{r:.1f}", f"{1000 / r:.1f}") for name, r in rates])
    if loaded:
        beside = result["beside_others"].items()
        kept = [(name, f"{r:.1f}", f"{100 * r / result['images_per_second'][name]:.0f} %") for name, r in beside]
        output.table(("beside a busy process on each core", "a second", "of the above"), kept)
    if "race" in result:
        races: list[tuple[str, ...]] = []
        for name, racer in result["race"].items():
            for run in racer["runs"]:
                error = " / ".join("–" if value is None else f"{value:.2f}" for value in run["mae"].values())
                races.append((
                    f"{run['seconds']:g} s", name, error, f"{run['lost']} of {run['frames']}",
                    f"{run['psnr']:.1f} dB", "–" if run["sharpness"] is None else f"{run['sharpness']:.2f}",
                ))  # fmt: skip
        output.table(("trained for", "by", "mean error (°)", "lost", "PSNR", "sharpness"), races)
    output.print(f"precision chosen here: {result['precision_chosen']}; written to {out / 'bench.json'}")


EngineName = Annotated[str, typer.Option("--engine", help="local processes, or ray.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Trainings at once; default: one a core, or 8 on a GPU.")]
Address = Annotated[str | None, typer.Option(help="A running Ray cluster; default: a Ray of this machine's own.")]


@app.command("ablate", rich_help_panel=MAINTAINERS)
def ablate_command(
    out: Annotated[Path, typer.Option(help="Folder for everything; an interrupted study in it goes on.")],
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    seed: Seed = 0,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """SwapWarp with one part left out at a time: a quarter of an hour on two cores."""
    from dmsynth.experiments.ablations import ablate
    from dmsynth.experiments.grid import Engine

    _print_study(ablate(out, tracker, tracker_model, Engine(engine, workers, address), seed), out)


@app.command("gpu", rich_help_panel=MAINTAINERS)
def gpu_command(
    out: Annotated[Path, typer.Option(help="Folder for everything; parts that are done in it are kept.")] = Path(
        "runs/gpu"
    ),
    minutes: Annotated[float, typer.Option(min=0.1, help="How long it may take in all.")] = 10.0,
    preset: Annotated[str, typer.Option(help="full, or smoke: everything tiny, on any machine.")] = "full",
    seed: Seed = 0,
) -> None:
    """What matters on a GPU, on one page: chapter 3 at the thesis's size, both models, and how fast all of it is."""
    from dmsynth.experiments.gpu import measure_gpu

    output.print(f"page: {measure_gpu(out, preset, minutes, seed, given_command())}")


@reproduce_app.command("position")
def reproduce_position(
    out: Annotated[Path, typer.Option(help="Folder for everything; an interrupted study in it goes on.")],
    preset: Annotated[str, typer.Option(help="thesis (days), laptop (hours) or smoke (a minute).")] = "laptop",
    photo: Annotated[Path | None, typer.Option(help="A portrait; default: a public-domain one.")] = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    seed: Seed = 0,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """Chapter 3: four models, eight latent sizes, every figure and every finding."""
    from dmsynth.experiments.grid import Engine
    from dmsynth.experiments.position import reproduce
    from dmsynth.trackers import open_tracker

    runs = Engine(engine, workers, address)
    report = reproduce(out, preset, open_tracker(tracker, tracker_model), photo, runs, seed)
    _print_study(report, out)


@reproduce_app.command("rotation")
def reproduce_rotation(
    driving: Annotated[list[Path], typer.Option(help="A video of anybody who turns the head; may be given again.")],
    out: Annotated[Path, typer.Option(help="Folder for everything; an interrupted study in it goes on.")],
    recording: Annotated[
        list[Path] | None,
        typer.Option(help="A recording of one person; may be given again. Default: the embedded portrait, posed."),
    ] = None,
    liveportrait: Checkout = None,
    liveportrait_video: Annotated[
        Path | None, typer.Option(help="What LivePortrait made of the driving video elsewhere.")
    ] = None,
    preset: Annotated[str, typer.Option(help="thesis (days), laptop (half an hour) or smoke (a minute).")] = "laptop",
    seed: Seed = 0,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
    second_tracker: SecondTracker = "auto",
    second_tracker_model: SecondTrackerModel = None,
) -> None:
    """Chapter 4: a face driven by somebody else, by the rotation model, SwapWarp and LivePortrait."""
    from dmsynth.experiments.rotation import Judges, LivePortraitGiven, reproduce

    report = reproduce(
        out, preset, recording or [], driving,
        Judges(tracker, tracker_model, second_tracker, second_tracker_model),
        LivePortraitGiven(liveportrait, liveportrait_video), seed,
    )  # fmt: skip
    _print_study(report, out)


@reproduce_app.command("stability")
def reproduce_stability(
    out: Annotated[Path, typer.Option(help="Folder for everything; an interrupted study in it goes on.")],
    photo: Annotated[Path | None, typer.Option(help="A portrait; default: a public-domain one.")] = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    seed: Seed = 0,
    tracker: TrackerName = "auto",
    tracker_model: TrackerModel = None,
) -> None:
    """The thesis's open problem, unstable training: its optimization against ours, same seeds, same data."""
    from dmsynth.experiments.grid import Engine
    from dmsynth.experiments.stable_training import compare
    from dmsynth.trackers import open_tracker

    runs = Engine(engine, workers, address)
    report = compare(out, open_tracker(tracker, tracker_model), photo, runs, seed)
    _print_study(report, out)


def _print_study(report: StudyReport, out: Path) -> None:
    """The findings, or where there are none the first table; everything else is in the report."""
    title, rows = next(iter(report.tables.items()))
    if report.findings:
        findings = [(finding.claim, finding.measured, finding.verdict) for finding in report.findings]
        output.table(("the thesis says", "measured", ""), findings)
    else:
        output.print(title)
        output.table(tuple(rows.columns), [tuple(row) for row in rows.itertuples(index=False)])
    output.print(f"report: {out / 'report.html'}")
