"""The machine: its description, memory settings, device and fastest precision."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from dmsynth.support.errors import DmsynthError
from dmsynth.support.parallel import cores

_ARENA_MAX, _MMAP_THRESHOLD = -8, -3  # of mallopt(3)


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory (GiB), accelerator and versions: needed to compare timings."""
    description: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        description["memory_gib"] = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    if torch.cuda.is_available():
        description["accelerator"] = torch.cuda.get_device_name()
    return description


def keep_memory_small() -> None:
    """Limit glibc to few malloc arenas, and return their free memory to the system every half minute.

    For a process that runs for hours: otherwise each of its threads keeps its largest amount of memory forever. Does
    nothing without glibc.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_ARENA_MAX, 2)
        libc.mallopt(_MMAP_THRESHOLD, 2**17)  # images are allocated by mmap, and returned when freed
    except (OSError, AttributeError):
        return

    def trim() -> None:
        while True:
            time.sleep(30)
            give_back_memory()

    threading.Thread(target=trim, daemon=True).start()


def give_back_memory() -> None:
    """Hand memory that was freed back to the system. Does nothing without glibc.

    Else it keeps what threads freed, in pieces: a process that draws clip after clip grows for thousands of frames.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def device_of(name: str) -> str:
    """The device for a name: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.

    Raises ``DmsynthError`` for another name, and for ``cuda`` on a machine without a GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise DmsynthError(f"--device {name}: choose auto, cpu or cuda")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise DmsynthError("--device cuda: PyTorch finds no GPU here; use --device cpu, or install a CUDA build of it")
    return "cuda" if there and name != "cpu" else "cpu"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def best_precision() -> str:
    """Lightning's name of the fastest precision here: ``bf16-mixed`` where the hardware has it, else ``32-true``.

    On a CPU bfloat16 pays only with AMX or AVX512-BF16; without them it is emulated and about three times slower.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    capabilities = torch.backends.cpu.get_cpu_capability()
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    native = "amx_bf16" in flags or "avx512_bf16" in flags
    return "bf16-mixed" if native and capabilities.startswith("AVX512") else "32-true"
