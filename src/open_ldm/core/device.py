"""Choosing a device and a number format, and configuring the process for it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError, choice_of
from open_ldm.core.launch import local_rank
from open_ldm.core.threads import fit_threads

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
DtypeName = Literal["auto", "float32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FP16_CAPABILITY = (7, 0)
"""Of a CUDA card: those before it multiply fp16 no faster than float32."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's own numbers, glibc's malloc.h


@dataclass(frozen=True)
class Machine:
    """The device that a run computes on, and the dtype of its matrix products."""

    device: torch.device
    compute_dtype: torch.dtype

    @property
    def sentence(self) -> str:
        """The machine in words, such as 'cpu (2 threads), bf16'."""
        name = next(name for name, dtype in DTYPES.items() if dtype == self.compute_dtype)
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {name}"
        if self.device.type == "cpu":
            return f"cpu ({torch.get_num_threads()} threads), {name}"
        return f"{self.device.type}, {name}"


def set_up_machine(
    device: DeviceName = "auto", dtype: DtypeName = "auto", deterministic: bool = False, *, scaled: bool = False
) -> Machine:
    """Choose a device and configure this process for it.

    Args:
        device: As `choose_device`.
        dtype: As `choose_device`.
        deterministic: As `configure_process`.
        scaled: As `choose_device`.

    Returns:
        The machine that was chosen.

    Raises:
        ConfigError: The named device is not on this machine.
    """
    machine = choose_device(device, dtype, scaled=scaled)
    configure_process(machine, deterministic)
    return machine


def choose_device(device: DeviceName = "auto", dtype: DtypeName = "auto", *, scaled: bool = False) -> Machine:
    """Choose where to compute and in which dtype; nothing of the process is changed.

    Args:
        device: A device by name; `auto` takes CUDA, else MPS, else the CPU. A process under torchrun or Slurm takes the CUDA
            device of its local rank.
        dtype: The dtype of matrix products; `auto` takes bf16 where the chip multiplies it fast, else float32.
        scaled: For training, which scales the loss of fp16: `auto` then takes that on CUDA cards without bf16, from compute
            capability 7.0 on.

    Returns:
        The device and the dtype.

    Raises:
        ConfigError: The named device is not on this machine.
    """
    chosen = torch.device(_device(device))
    if chosen.type == "cuda" and (local := local_rank()) is not None:
        chosen = torch.device("cuda", local % torch.cuda.device_count())  # a task of Slurm may see its own device alone
    compute = DTYPES.get(dtype) or _fast_dtype(chosen, scaled)
    return Machine(chosen, compute)


def device_name(given: str | torch.device) -> DeviceName:
    """Return the name of a device that is given by name or as one of torch.

    Raises:
        ConfigError: There is no such name, or it is one of several cards, which is chosen otherwise.
    """
    if isinstance(given, torch.device):
        if given.index:
            raise ConfigError(
                f"device {given} names one of several cards",
                needed="a device without a number",
                fix=f"choose the card by CUDA_VISIBLE_DEVICES={given.index} in the environment",
            )
        given = given.type
    return choice_of("device", given, get_args(DeviceName))


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor to a device without waiting for it: memory that CUDA copies from is pinned first."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def configure_process(machine: Machine, deterministic: bool = False) -> None:
    """Configure torch and the allocator of this process for a machine: these settings hold for everything it computes.

    Args:
        machine: Where the process will compute. It decides the precision of float32 products and whether freed memory is kept.
        deterministic: Let torch use only kernels that give the same bits every time.
    """
    fit_threads()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True)
    _set_float32_products(machine.device)
    # It measures which convolution is fastest, and may measure another one next time.
    torch.backends.cudnn.benchmark = machine.device.type == "cuda" and not deterministic
    if machine.device.type == "cpu":
        _keep_freed_memory()


@contextmanager
def products_of(machine: Machine) -> Iterator[None]:
    """Context manager in which float32 products are as precise as this program has them; then they are as they were."""
    before = torch.get_float32_matmul_precision()
    _set_float32_products(machine.device)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _device(given: DeviceName) -> str:
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    name = device_name(given)
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if present[device])
    if not present[name]:
        possible = ", ".join(device for device, is_present in present.items() if is_present)
        raise ConfigError(f"device {name} is not available on this machine", needed=f"one of auto, {possible}")
    return name


def _fast_dtype(device: torch.device, scaled: bool) -> torch.dtype:
    if multiplies_bf16(device):
        return torch.bfloat16
    if device.type == "cuda" and scaled and torch.cuda.get_device_capability(device) >= FP16_CAPABILITY:
        return torch.float16
    return torch.float32


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the chip itself multiplies bf16; where it does not, torch imitates that, many times slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})


def _set_float32_products(device: torch.device) -> None:
    """Use TF32 on CUDA. On CPUs use oneDNN, which is twice as fast and exact, except with AMX, where it rounds to bf16."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    elif device.type == "cpu" and cpu_flags() and "amx_bf16" not in cpu_flags():
        torch.set_float32_matmul_precision("medium")


def _keep_freed_memory() -> None:
    """Ask glibc to keep what tensors free; nothing happens with another C library.

    By default it returns the top of the heap to the kernel after every backward pass, and the next step pays for having
    each page zeroed and mapped again: 12,000 page faults a step in the demo.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 << 20)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def cpu_flags() -> frozenset[str]:
    """Read the feature names of the processor as Linux lists them; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    return frozenset(next((line for line in text.splitlines() if line.startswith("flags")), "").split())


def host_memory() -> tuple[int, int] | None:
    """Read how many bytes of the host's memory are free and how many it has, as Linux tells them; None elsewhere."""
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
        free, total = (1024 * int(rows[name].split()[0]) for name in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError):
        return None
    return free, total


def device_memory(device: torch.device) -> int | None:
    """Return the bytes of memory that a CUDA card has, or the machine for a CPU; None where that is not known."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    memory = host_memory() if device.type == "cpu" else None
    return None if memory is None else memory[1]


def most_memory(device: torch.device) -> int | None:
    """Return the most bytes that tensors took on a CUDA card, or this process on the machine, so far; None where unknown."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return _own_memory("VmHWM")


def forget_most_memory(device: torch.device) -> None:
    """Let `most_memory` count from here on, without what came before, such as loading weights; elsewhere nothing happens."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu" and sys.platform == "linux":
        with suppress(OSError):  # a container may forbid it
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def resident_memory() -> int | None:
    """Return the bytes of the machine's memory that this process takes now, as Linux tells them; None elsewhere."""
    return _own_memory("VmRSS")


def _own_memory(row: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{row}:"))
    except (OSError, StopIteration, ValueError):
        return None
