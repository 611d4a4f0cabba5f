"""The package's imports: read for the tests, and drawn as a house (``make house``; docs/architecture.md).

python tests/house.py docs/images/house.png [SRC ...]      # of each src/dmsynth, side by side
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

FLOW = {
    "support": "files, processes, progress, errors",
    "video": "frames in and out",
    "controls": "what can be commanded",
    "trackers": "what measures a head",
    "motion": "commands over time",
    "datasets": "where faces come from",
    "camera": "what a cabin camera sees",
    "learning": "networks, the swap, training",
    "steering": "what draws a commanded head",
    "evaluation": "how exact a face is",
    "playing": "videos in real time",
    "validation": "scenarios, DMSs, verdicts",
    "report": "pictures and pages",
    "experiments": "chapters of the thesis, and more",
    "generation": "labelled frames in bulk",
    "web": "a page without a server",
    "cockpit": "a page on this machine",
    "cli": "the command line",
}
"""The folders from the ground up, and what is in them: each imports those before it, never one after it."""


def imports(house: Path) -> dict[str, set[str]]:
    """Each module's imports of the package's own modules, those inside functions and for type checkers included."""
    files = {module(house, file): file for file in house.rglob("*.py")}
    arrows: dict[str, set[str]] = {name: set() for name in files}
    for name, file in files.items():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}: relative import; name the module in full"
                named = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for each in named:  # a module, or a name in one
                found = each if each in files else each.rpartition(".")[0]
                if found in files and found != name:
                    arrows[name].add(found)
    return arrows


def module(house: Path, file: Path) -> str:
    """The dotted name of a file in the package's folder."""
    parts = (house.name, *file.relative_to(house).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def rooms(house: Path) -> tuple[dict[str, int], dict[str, set[str]]]:
    """Folders and single files of the package: lines of code of each, and which others it imports."""
    lines: dict[str, int] = {}
    for file in house.rglob("*.py"):
        name = _room(module(house, file))
        lines[name] = lines.get(name, 0) + len(file.read_text("utf-8").splitlines())
    arrows: dict[str, set[str]] = {name: set() for name in lines}
    for name, found in imports(house).items():
        arrows[_room(name)] |= {_room(each) for each in found} - {_room(name)}
    return lines, arrows


def _room(name: str) -> str:
    return name.split(".")[1] if "." in name else name


def floors(arrows: Mapping[str, set[str]]) -> dict[str, int]:
    """The floor of each room: above all that it imports. An import that would close a circle is passed over."""
    found: dict[str, int] = {}

    def floor(name: str, above: tuple[str, ...]) -> int:
        if name not in found:
            below = [floor(each, (*above, name)) for each in sorted(arrows[name]) if each not in above and each != name]
            found[name] = 1 + max(below, default=0)
        return found[name]

    for name in sorted(arrows, key=lambda each: (len(arrows[each]), each)):
        floor(name, ())
    return found


def draw(houses: list[Path], path: Path) -> None:
    """Draw houses side by side: a floor above all that it imports, an arrow an import; red where it runs back up."""
    figure, axes = plt.subplots(1, len(houses), figsize=(9.5 * len(houses), 8.5), squeeze=False)
    for axis, house in zip(axes[0], houses, strict=True):
        lines, arrows = rooms(house)
        at = floors(arrows)
        places = _places(at, lines)
        up = 0
        for name, found in arrows.items():
            for each in found:
                (x, y), (to_x, to_y) = places[name], places[each]
                back = to_y >= y
                up += back
                axis.annotate(
                    "", (to_x, to_y + 0.2), (x, y - 0.2), zorder=3 if back else 1,
                    arrowprops={
                        "arrowstyle": "-|>", "color": "#e4572e" if back else "#c3cdd8",
                        "linewidth": 1.4 if back else 0.7, "connectionstyle": "arc3,rad=0.06",
                        "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7,
                    },
                )  # fmt: skip
        most = max(list(at.values()).count(floor) for floor in at.values())
        for name, (x, y) in places.items():
            width = 0.86 if most > 6 else 1.8
            shape = "round,pad=0.02,rounding_size=0.06"
            box = FancyBboxPatch(
                (x - width / 2, y - 0.2), width, 0.4, boxstyle=shape, facecolor="#eef3f8", edgecolor="#1f4e79", zorder=2
            )
            axis.add_patch(box)
            small = 6.0 if most > 6 else 10.5
            axis.text(x, y + 0.06, name, ha="center", va="center", fontsize=small, weight="bold", zorder=4)
            about = FLOW.get(name, "dmsynth.load") if len(lines) < 20 else f"{lines[name]:,} lines"
            axis.text(x, y - 0.1, about, ha="center", va="center", fontsize=small - 2.3, zorder=4)
        count = sum(map(len, arrows.values()))
        axis.set_title(f"{len(lines)} boxes, {count} arrows, {up} of them back up", fontsize=12)
        axis.set_axis_off()
        axis.autoscale_view()
        axis.margins(0.03)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _places(at: Mapping[str, int], lines: Mapping[str, int]) -> dict[str, tuple[float, float]]:
    """x, y of each room: those of a floor beside each other, around the middle."""
    places = {}
    for floor in sorted(set(at.values())):
        own = sorted((name for name in at if at[name] == floor), key=lambda name: -lines[name])
        spread = [own[i] for i in (*range(1, len(own), 2)[::-1], *range(0, len(own), 2))] if len(own) > 2 else own
        step = 1.0 if len(at) > 20 else 1.9
        for place, name in enumerate(spread):
            places[name] = ((place - (len(spread) - 1) / 2) * step, float(floor))
    return places


if __name__ == "__main__":
    draw([Path(name) for name in sys.argv[2:]] or [Path("src/dmsynth")], Path(sys.argv[1]))
