"""What docs/generate.md says of memory: that of `dmsynth generate` over many small frames.

python tests/measure_generate.py OUT [FRAMES [MINUTES]]   # OUT/memory.csv, OUT/memory.png; 100000 frames, 600 minutes

OUT is the set's folder, too: the same command goes on where it was ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import yaml
from matplotlib import pyplot as plt
from scipy.stats import linregress
from scipy.stats import t as student

from dmsynth.report.figures import STYLE, save
from dmsynth.support.table_files import read_table, write_table

_PLAN = {
    "name": "memory", "seed": 0, "size": [96, 72], "clips_per_shard": 20,
    "people": ["portrait"], "cameras": ["night-small"],
    "things": [{"wear": []}, {"wear": ["glasses"]}],
    "motions": [{"kind": "driving"}, {"kind": "uniform"}, {"kind": "stratified"}],
}  # fmt: skip
_WHO = ("command", "worker")
_EVERY = 2.0  # seconds between two looks
_BEGINS = 0.2  # of the frames, after which a process has opened all that it needs


def resident(process: int) -> float:
    """Memory that a process has in RAM, MB; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError):
        return 0.0


def children(process: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def drawn(frames: Path, seen: dict[str, int]) -> int:
    """Frames of the clips that are drawn; ``seen``: of each file that says it, by its path."""
    for shard in frames.glob("jobs/*"):
        done = shard / "result.json"
        for file in [done] if done.exists() else shard.glob("0*.json"):  # a finished shard has no more of the latter
            if str(file) not in seen:
                said = json.loads(file.read_text())
                seen[str(file)] = sum(clip["frames"] for clip in said.get("clips", [said]))
                if file == done:
                    seen.update({each: 0 for each in seen if Path(each).parent == shard and each != str(file)})
    return sum(seen.values())


def measure(out: Path, count: int, minutes: float) -> pd.DataFrame:
    """Generate, and look at the command and its one worker: ``seconds``, ``frames``, and MB of ``command`` and
    ``worker``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "plan.yaml").write_text(yaml.safe_dump(_PLAN | {"frames": count}))
    command = [sys.executable, "-m", "dmsynth.cli", "generate", str(out / "plan.yaml"), "--out", str(out / "frames")]
    process = subprocess.Popen([*command, "--workers", "1"], start_new_session=True)
    begun, rows, seen = time.monotonic(), [], dict[str, int]()
    while process.poll() is None and time.monotonic() - begun < 60 * minutes:
        time.sleep(_EVERY)
        worker = max((resident(child) for child in children(process.pid)), default=0.0)
        frames = drawn(out / "frames", seen)
        rows.append((time.monotonic() - begun, frames, resident(process.pid), worker))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    process.wait()
    return pd.DataFrame(rows, columns=["seconds", "frames", "command", "worker"])


def by_clip(found: pd.DataFrame, who: str) -> pd.Series:
    """MB after each clip, by the frames that were drawn: the median of the looks until the next one."""
    return found[found[who] > 0].groupby("frames")[who].median()


def growth(found: pd.DataFrame, who: str) -> tuple[float, float]:
    """MB that 100,000 frames add, and half of its 95 % interval: by a line through what was seen once all was opened,
    the medians of clips."""
    clips = by_clip(found, who)
    clips = clips[clips.index > _BEGINS * clips.index.max()]
    line = linregress(clips.index.to_numpy(float), clips.to_numpy(float))
    return 1e5 * float(line.slope), 1e5 * float(line.stderr) * float(student.ppf(0.975, len(clips) - 2))


def draw(found: pd.DataFrame, path: Path) -> None:
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 3))
        for who, colour, name in (("worker", "#1f4e79", "its worker"), ("command", "#e4572e", "the command")):
            clips = by_clip(found, who)
            axis.plot(clips.index, clips, color=colour, label=name, linewidth=1.5)
        axis.set_xlabel("frames drawn")
        axis.set_ylabel("memory, MB")
        axis.set_ylim(0, None)
        axis.legend(fontsize=8)
        figure.tight_layout()
        save(figure, path)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    given = [float(each) for each in sys.argv[2:]]
    table = measure(folder, int(given[0]) if given else 100_000, given[1] if given[1:] else 600.0)
    write_table(folder / "memory.csv", table)
    draw(read_table(folder / "memory.csv"), folder / "memory.png")
    said = [f"{table['frames'].max()} frames in {table['seconds'].max():.0f} s"]
    for name in _WHO:
        more, sure = growth(table, name)
        said.append(f"{name}: at most {table[name].max():.0f} MB, {more:+.0f} ± {sure:.0f} MB in 100,000 frames")
    sys.stdout.write("\n".join([*said, ""]))
