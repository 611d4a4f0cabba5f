"""A DMS on the bench: scenarios played to it in real time, and its own log as answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dmsynth.cli.app import VALIDATION, Device, Json, app, output, print_json
from dmsynth.support.errors import DmsynthError
from dmsynth.support.progress import console


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
    from dmsynth.playing.clock import MonotonicClock
    from dmsynth.playing.marks import Marking
    from dmsynth.playing.player import Play, Playlist, pace, play
    from dmsynth.playing.sinks import check_sink, open_sink
    from dmsynth.steering import FaceSpec, open_renderer
    from dmsynth.support.files import check_output
    from dmsynth.support.table_files import write_table
    from dmsynth.validation.clips import clips_of

    marking = Marking(mark, corner)
    _whole_times(log)
    check_output(log)
    check_sink(to)  # before scenarios are rendered, which may take long
    steerable = open_renderer(FaceSpec.of(face, device)) if face else None
    clips = clips_of(names, steerable, videos)
    if any(log.resolve() == each.video.with_suffix(log.suffix).resolve() for each in clips):
        raise DmsynthError(f"--log {log}: is the table of a clip; give the log another name")
    playlist = Playlist.of(clips, lead)
    marking.check(*playlist.size)
    tell = console if to == "-" else output  # standard output has the frames
    width, height = playlist.size
    for name in playlist.boxed:
        console.print(f"{name}: has frames of another size, which are scaled to {width}×{height} with black bars")
    console.print(f"{len(clips)} clips of {width}×{height}, {playlist.infos[0].frame_rate:g} frames a second, to {to}")
    sink, played = open_sink(to, playlist.size, playlist.infos[0].frame_rate), Play()
    try:
        play(playlist, sink, marking, MonotonicClock(), played)
    finally:
        sink.close()
        write_table(log, played.table())
    kept = pace(played.table())
    if as_json and to != "-":
        print_json(kept)
    else:
        rows = [
            (name.replace("_", " "), f"{value:.2f}" if isinstance(value, float) else value)
            for name, value in kept.items()
        ]
        tell.table(("frames; ms after their time", ""), rows)
        tell.print(f"log: {log}")
        if kept["late"] or kept["dropped"]:
            tell.print(
                "this machine was busy: close other work, or run it as chrt -f 10 dmsynth play …", style="yellow"
            )
    if played.stopped:
        raise DmsynthError(
            f"--to {to}: {played.stopped}; after {len(played.rows)} frames, which {log} holds: play again"
        )


def _whole_times(table: Path) -> None:
    """``DmsynthError`` for a table that would be written with rounded times, as .csv is."""
    if table.suffix.lower() != ".parquet":
        raise DmsynthError(f"{table}: its times must not be rounded; give a name that ends with .parquet")


@app.command("read-marks", rich_help_panel=VALIDATION)
def read_marks_command(
    video: Annotated[Path, typer.Argument(help="A recording of what was played, by the DMS's camera or another.")],
    out: Annotated[Path, typer.Option(help="Table to write, .parquet: time, and the number of the frame.")],
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
    as_json: Json = False,
) -> None:
    """Turn a DMS's own log into answers about what was played to it, clocks aligned."""
    from dmsynth.validation.bench_log import read_bench_log, write_bench_log

    found = read_bench_log(log, play, meaning)
    paths = write_bench_log(found, out, log)
    if as_json:
        print_json([
            {
                "clip": clip.name, "answers": len(clip.answers), "uncertainty": clip.uncertainty,
                "dropped": clip.dropped, "log": path,
            }
            for clip, path in zip(found.clips, paths, strict=True)
        ])  # fmt: skip
        return
    rows = [
        (clip.name, len(clip.answers), f"± {clip.uncertainty:.3f} s", path)
        for clip, path in zip(found.clips, paths, strict=True)
    ]
    output.table(("clip", "answers", "their times", "log"), rows)
    output.print(found.alignment.in_words())
    for clip in found.clips:
        if clip.carried:
            output.print(
                f"{clip.name}: a warning of before was still on when it began; play with a longer --lead",
                style="yellow",
            )
        if clip.dropped:
            output.print(
                f"{clip.name}: {clip.dropped} numbers out of range, such as a yaw of 999, were dropped alone",
                style="yellow",
            )
        if not clip.answers:
            output.print(f"{clip.name}: the log says nothing of it", style="yellow")
