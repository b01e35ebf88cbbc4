"""`ldm doctor`: what this machine has for training, what would be slow or wrong here, and the command that helps."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distributions, requires
from pathlib import Path
from typing import Literal

import torch

import open_ldm
from open_ldm.core.counted import counted
from open_ldm.core.device import choose_device, configure_process, cpu_flags, host_memory
from open_ldm.core.extras import DISTRIBUTION
from open_ldm.core.known_traps import traps_in
from open_ldm.core.peak import matrix_speed
from open_ldm.core.threads import cgroup_cores, fit_threads, usable_cores

Level = Literal["ok", "note", "slow", "wrong"]
_DISK_MB = 32
_SLOW_DISK_MB_PER_SECOND = 50
_LEAST_FREE_GB = 5
_LEAST_FREE_GIB = 2
_LEAST_SHARED_MB = 256
EXTRAS = {"text": "transformers", "autoencoders": "diffusers", "data": "datasets"}
"""A library of each extra that tells whether it is installed."""


@dataclass(frozen=True)
class Finding:
    """One fact of the machine.

    Attributes:
        level: `ok`; `note`, good to know; `slow`; or `wrong`, something will fail.
        about: What was looked at, in a word or two.
        found: What was found.
        fix: What helps; '' where nothing needs to.
    """

    level: Level
    about: str
    found: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        """Return it as plain data."""
        return asdict(self)


def examine(folder: Path) -> list[Finding]:
    """Look at this machine.

    Args:
        folder: Where runs would be written; a few megabytes are written there and removed, to time the disk.

    Returns:
        What was found, in the order in which it is read.
    """
    installed = {each.metadata["Name"].lower(): each.version for each in distributions() if each.metadata["Name"]}
    looks: Iterable[Callable[[], Iterable[Finding]]] = (
        lambda: [_versions(installed)],
        lambda: [_device()],
        _processor,
        _products,
        _memory,
        lambda: [_disk(folder)],
        lambda: [_extras(installed)],
        lambda: _torchvision(installed),
        lambda: (
            Finding("note", f"{trap.library} {version}", f"{trap.happens} ({trap.source})", trap.fix)
            for trap, version in traps_in(installed)
        ),
    )
    return [finding for look in looks for finding in look()]


def _versions(installed: Mapping[str, str]) -> Finding:
    names = ("torch", "numpy", "pillow", "safetensors")
    found = ", ".join(f"{name} {installed[name]}" for name in names if name in installed)
    return Finding("ok", "versions", f"{DISTRIBUTION} {open_ldm.__version__}, Python {platform.python_version()}, {found}")


def _device() -> Finding:
    machine = choose_device(scaled=True)
    if machine.device.type == "cuda":
        cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        found = "; ".join(f"{card.name}, {card.total_memory / 2**30:.0f} GiB" for card in cards)
        if machine.compute_dtype is torch.float32:
            return Finding("slow", "device", f"{found}: no bf16, so training uses float32", "a card with bf16 is much faster")
        if machine.compute_dtype is torch.float16:
            return Finding("ok", "device", f"{found}: no bf16, so training uses fp16 with loss scaling")
        return Finding("ok", "device", f"{found}, bf16")
    if sys.platform == "linux" and torch.version.cuda is None and Path("/proc/driver/nvidia").exists():
        return Finding(
            "wrong", "device", "an NVIDIA driver is here, but torch is built without CUDA", "install torch's CUDA build"
        )
    return Finding("ok", "device", machine.sentence)


def _processor() -> Iterable[Finding]:
    flags = cpu_flags()
    fit_threads()
    allowed = usable_cores()
    threads = torch.get_num_threads()
    has = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    limit = "" if cgroup_cores() is None else f" (a cgroup gives the time of {cgroup_cores():g})"
    cores = f"{counted(allowed, 'core')} for this process{limit}"
    found = f"{cores}, {counted(threads, 'thread')}, {', '.join(has) or platform.machine()}"
    yield Finding("ok", "processor", found)
    if os.environ.get("OMP_WAIT_POLICY", "").lower() == "active":
        spins = "OMP_WAIT_POLICY=ACTIVE: threads that wait keep their cores from other programs"
        yield Finding("slow", "waiting", spins, "unset OMP_WAIT_POLICY")
    if threads != allowed and "OMP_NUM_THREADS" in os.environ:
        yield Finding(
            "slow", "threads", f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}, {allowed} cores", "unset OMP_NUM_THREADS"
        )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5 * allowed:
        fix = "wait for the other work, or set OMP_NUM_THREADS to the cores that are free"
        yield Finding("slow", "shared cores", f"{load:.1f} processes were running on {allowed} cores in the last minute", fix)
    if choose_device("cpu").compute_dtype is torch.float32 and flags:
        yield Finding("note", "bf16 on the CPU", "this processor only emulates bf16, so dtype: auto takes float32", "")


def _products() -> Iterable[Finding]:
    """Matrix products of the format that training would use, as a share of which speeds can be read."""
    machine = choose_device()
    configure_process(machine)
    speed = matrix_speed(machine)
    said = f"{speed / 1e12:.1f} TFLOP/s" if speed > 1e12 else f"{speed / 1e9:.0f} GFLOP/s"
    yield Finding("ok", "matrix products", f"{said} in {machine.sentence.rpartition(', ')[2]} ")


def _memory() -> Iterable[Finding]:
    if (memory := host_memory()) is not None:
        free, total = (each / 2**30 for each in memory)
        level: Level = "ok" if free > _LEAST_FREE_GIB else "slow"
        yield Finding(level, "memory", f"{free:.1f} of {total:.1f} GiB free", "" if level == "ok" else "end other programs")
    shared = Path("/dev/shm")
    if shared.is_dir() and (megabytes := shutil.disk_usage(shared).total / 1e6) < _LEAST_SHARED_MB:
        fix = "start the container with --shm-size=1g, or train with data.workers=0"
        yield Finding("wrong", "shared memory", f"{megabytes:.0f} MB in /dev/shm: data workers pass pictures through it", fix)


def _disk(folder: Path) -> Finding:
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())
    free = shutil.disk_usage(place).free / 1e9
    content = os.urandom(1 << 20)
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            started = time.perf_counter()
            for _ in range(_DISK_MB):
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
            speed = _DISK_MB * 1.048576 / (time.perf_counter() - started)
    except OSError as error:
        return Finding("wrong", "disk", f"{place} cannot be written: {error.strerror or error}", "choose another --out")
    found = f"{place}: {free:,.0f} GB free, writes {speed:,.0f} MB/s"
    if free < _LEAST_FREE_GB:
        return Finding("wrong", "disk", found, "free some space: a save needs room beside the checkpoints that stay")
    if speed < _SLOW_DISK_MB_PER_SECOND:
        return Finding("slow", "disk", found, "write runs to a local disk, or raise training.checkpoint_every_samples")
    return Finding("ok", "disk", found)


def _extras(installed: Mapping[str, str]) -> Finding:
    absent = [extra for extra, library in EXTRAS.items() if library not in installed]
    if not absent:
        return Finding("ok", "extras", f"{', '.join(EXTRAS)} are installed")
    return Finding("note", "extras", f"not installed: {', '.join(absent)}", f"pip install '{DISTRIBUTION}[{','.join(absent)}]'")


def _torchvision(installed: Mapping[str, str]) -> Iterable[Finding]:
    """Transformers imports torchvision where it is installed, and fails where that was built for another torch."""
    if "torchvision" not in installed:
        return
    try:
        asked = next((each for each in requires("torchvision") or () if each.split(";")[0].strip().startswith("torch=")), "")
    except PackageNotFoundError:
        return
    wanted = asked.split(";")[0].partition("==")[2].strip()
    have = installed.get("torch", "").split("+")[0]
    if wanted and wanted != have:
        found = f"{installed['torchvision']} was built for torch {wanted}, and torch is {have}: transformers fails with it"
        yield Finding("wrong", "torchvision", found, "pip uninstall torchvision (open-ldm does not need it)")
