"""A DMS on the bench: scenarios played to it in real time, and its own log as answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmsynth.cli.app import (
    VALIDATION,
    CameraName,
    Device,
    Json,
    Wear,
    app,
    cast_specs,
    face_spec,
    output,
    print_json,
)
from dmsynth.cli.matrix import CastName, Sample, SampleSeed, Vary, found_scenarios, matrix_of
from dmsynth.support.errors import DmsynthError
from dmsynth.support.progress import console

if TYPE_CHECKING:
    from dmsynth.playing.marks import Marking
    from dmsynth.playing.player import Play, Playlist
    from dmsynth.steering import FaceSpec
    from dmsynth.support.terminal import Terminal


@app.command("play", rich_help_panel=VALIDATION)
def play_command(
    names: Annotated[list[str], typer.Argument(help="Videos; or scenarios: all, a group, a name, a .yaml file.")],
    to: Annotated[
        str, typer.Option(help="screen[:1], /dev/video2, udp://HOST:PORT, rtsp://HOST/NAME, - (raw RGB), or none.")
    ],
    log: Annotated[Path, typer.Option(help="Table to write, .parquet: when each frame was shown.")],
    face: Annotated[
        Path | None, typer.Option(help="Who plays the scenarios: starter, a photo, posed:DATASET …")
    ] = None,
    cast: CastName = None,
    camera: CameraName = None,
    wear: Wear = None,
    vary: Vary = None,
    sample: Sample = None,
    seed: SampleSeed = 0,
    videos: Annotated[Path, typer.Option(help="Where scenarios' videos are, and are rendered to.")] = Path(
        "runs/videos"
    ),
    mark: Annotated[str, typer.Option(help="In a corner: code (number and patch), patch, or none.")] = "code",
    corner: Annotated[str, typer.Option(help="bottom-left, bottom-right, top-left or top-right.")] = "bottom-left",
    lead: Annotated[
        float, typer.Option(min=0, max=60, help="Seconds for which a clip's first frame stands still before it.")
    ] = 3.0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Play scenarios or videos in real time to a screen, a virtual camera, a stream or a pipe, and log every frame."""
    from dmsynth.experiments.clips import clips_of_scenarios, clips_of_videos, videos_and_scenarios
    from dmsynth.playing.marks import Marking
    from dmsynth.playing.player import Playlist, pace
    from dmsynth.playing.sinks import check_sink
    from dmsynth.support.files import check_output

    marking = Marking(mark, corner)
    _whole_times(log)
    check_output(log)
    check_sink(to)  # before scenarios are rendered, which may take long
    matrix = matrix_of(vary, sample, seed, camera, wear)
    files, named = videos_and_scenarios(names)
    clips = clips_of_videos(files)
    if named:
        scenarios = found_scenarios(named, camera, wear)
        clips = clips_of_scenarios(scenarios, _drivers(named, face, cast, device), videos, matrix) + clips
    elif camera or wear or matrix or cast:
        raise DmsynthError("--camera, --wear, --vary and --cast are of scenarios; videos are played as they are")
    if any(log.resolve() == each.video.with_suffix(log.suffix).resolve() for each in clips):
        raise DmsynthError(f"--log {log}: is the table of a clip; give the log another name")
    playlist = Playlist.of(clips, lead)
    marking.check(*playlist.size)
    played = _played(playlist, to, marking, log)
    if as_json and to != "-":
        print_json(pace(played.table()))
    else:  # standard output may have the frames
        _print_pace(pace(played.table()), log, console if to == "-" else output)
    if played.stopped:
        raise DmsynthError(
            f"--to {to}: {played.stopped}; after {len(played.rows)} frames, which {log} holds: play again"
        )


def _drivers(names: list[str], face: Path | None, cast: Path | None, device: str) -> FaceSpec | dict[str, FaceSpec]:
    if face and cast:
        raise DmsynthError("--cast names the faces; leave out --face")
    if cast:
        return cast_specs(cast, device=device)
    if face is None:
        raise DmsynthError(f"{names[0]}: give --face or --cast: who plays it, such as starter")
    return face_spec("face", face, None, None, device=device)


def _played(playlist: Playlist, to: str, marking: Marking, log: Path) -> Play:
    """What was played; the log is written of a play that was interrupted, too."""
    from dmsynth.playing.clock import MonotonicClock
    from dmsynth.playing.player import Play, play
    from dmsynth.playing.sinks import open_sink
    from dmsynth.support.table_files import write_table

    width, height = playlist.size
    for name in playlist.boxed:
        console.print(f"{name}: has frames of another size, which are scaled to {width}×{height} with black bars")
    console.print(
        f"{len(playlist.clips)} clips of {width}×{height}, {playlist.frame_rate:g} frames a second, "
        f"{playlist.seconds / 60:.1f} minutes, to {to}"
    )
    sink, played = open_sink(to, playlist.size, playlist.frame_rate), Play()
    try:
        play(playlist, sink, marking, MonotonicClock(), played)
    finally:
        sink.close()
        write_table(log, played.table())
    return played


def _print_pace(kept: dict[str, float | int], log: Path, tell: Terminal) -> None:
    rows = [
        (name.replace("_", " "), f"{value:.2f}" if isinstance(value, float) else value) for name, value in kept.items()
    ]
    tell.table(("frames; ms after their time", ""), rows)
    tell.print(f"log: {log}")
    if kept["late"] or kept["dropped"]:
        tell.print("this machine was busy: close other work, or run it as chrt -f 10 dmsynth play …", style="yellow")


def _whole_times(table: Path) -> None:
    """``DmsynthError`` for a table that would be written with rounded times, as .csv is."""
    if table.suffix.lower() != ".parquet":
        raise DmsynthError(f"{table}: its times must not be rounded; give a name that ends with .parquet")


@app.command("read-marks", rich_help_panel=VALIDATION)
def read_marks_command(
    video: Annotated[Path, typer.Argument(help="A recording of what was played, by the DMS's camera or another.")],
    out: Annotated[Path, typer.Option(help="Table to write, .parquet: picture, time, number of the frame.")],
) -> None:
    """Read the numbers of played frames in a recording of them."""
    from dmsynth.playing.filmed import read_marks
    from dmsynth.support.files import check_output
    from dmsynth.support.table_files import write_table

    _whole_times(out)
    check_output(out)
    found = read_marks(video)
    write_table(out, found)
    output.print(f"{int(found['code'].notna().sum())} of {len(found)} frames read; table: {out}")


@app.command("bench-log", rich_help_panel=VALIDATION)
def bench_log_command(
    log: Annotated[Path, typer.Argument(help="The DMS's own log: .csv, .parquet, .jsonl, .mf4, .mcap, .db3 or a bag.")],
    play: Annotated[Path, typer.Option(help="What `dmsynth play --log` wrote.")],
    meaning: Annotated[Path, typer.Option("--map", help="A .yaml file: what the log's columns mean.")],
    out: Annotated[Path, typer.Option(help="Folder for CLIP.jsonl, for `validate --dms-log`; of one clip: a .jsonl.")],
    film: Annotated[
        Path | None,
        typer.Option(help="The DMS's own recording of the play, or what read-marks made of it; the map joins it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn a DMS's own log into answers about what was played to it, clocks aligned."""
    from dmsynth.validation.bench_log import read_bench_log, write_bench_log

    found = read_bench_log(log, play, meaning, film)
    paths = write_bench_log(found, out, log)
    if as_json:
        print_json([
            {
                "clip": clip.full_name, "answers": len(clip.answers), "uncertainty": clip.uncertainty,
                "dropped": clip.dropped, "log": path,
            }
            for clip, path in zip(found.clips, paths, strict=True)
        ])  # fmt: skip
        return
    rows = [
        (clip.full_name, len(clip.answers), f"± {clip.uncertainty:.3f} s", path)
        for clip, path in zip(found.clips, paths, strict=True)
    ]
    output.table(("clip", "answers", "their times", "log"), rows)
    output.print(found.alignment.in_words())
    for clip in found.clips:
        if clip.carried:
            output.print(
                f"{clip.full_name}: a warning of before was still on when it began; play with a longer --lead",
                style="yellow",
            )
        if clip.dropped:
            output.print(
                f"{clip.full_name}: {clip.dropped} numbers out of range, such as a yaw of 999, were dropped alone",
                style="yellow",
            )
        if not clip.answers:
            output.print(f"{clip.full_name}: the log says nothing of it", style="yellow")
