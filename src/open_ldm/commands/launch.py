"""`ldm train --gpus N` and `--processes N`: torchrun on this machine, started from the command itself."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from open_ldm.core.counted import counted
from open_ldm.core.errors import ConfigError, OpenLdmError
from open_ldm.core.launch import CODES, local_rank
from open_ldm.core.threads import environment_of, usable_cores

_SHUTDOWN_SECONDS = 600
"""How long torchrun waits for processes that save after a stop signal, before it kills them."""


def launch(arguments: Sequence[str], *, gpus: int | None = None, processes: int | None = None) -> int:
    """Run a command of `ldm` in several processes of this machine, by torchrun.

    A stop signal reaches each of them once.

    Args:
        arguments: Of `ldm`.
        gpus: How many GPUs, one for each process.
        processes: How many processes on the CPU, which exchange tensors by gloo.

    Returns:
        The exit code of the run.

    Raises:
        ConfigError: There are not so many GPUs, or this process is already one of several.
        OpenLdmError: torchrun could not start the processes.
    """
    count = _count(gpus, processes)
    threads = max(1, usable_cores() // count)
    where = "this machine" if processes is None else f"this machine by gloo, {counted(threads, 'thread')} each"
    on = f"{counted(count, 'process', 'processes')} on {counted(count, 'GPU') if processes is None else 'the CPU'} of {where}"
    print(f"{on} (torchrun --nproc-per-node {count} -m open_ldm ...)", file=sys.stderr, flush=True)
    logging.disable(logging.WARNING)  # torchrun tells of every signal, and the processes say how the run ended
    os.environ.update(environment_of(threads))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SHUTDOWN_SECONDS))
    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
    with tempfile.TemporaryDirectory(prefix="ldm-") as folder:
        os.environ[CODES] = folder
        ended = _torchrun(["--standalone", "--nproc-per-node", str(count), "-m", "open_ldm", *arguments])
        codes = {int(file.name): int(file.read_text()) for file in Path(folder).iterdir() if file.name.isdigit()}
    return _code(ended, codes, count)


def _count(gpus: int | None, processes: int | None) -> int:
    if gpus is not None and processes is not None:
        raise ConfigError("--gpus and --processes were both given", fix="leave --processes out, which is for the CPU")
    if local_rank() is not None:
        raise ConfigError(
            "--gpus and --processes start processes, and this one is already one of several",
            fix="leave the option out under torchrun or srun",
        )
    here = torch.cuda.device_count()
    if gpus is not None and gpus > here:
        raise ConfigError(
            f"--gpus {gpus}, but this machine has {here}",
            needed=f"at most {here}" if here else "a machine with GPUs",
            fix=f"--processes {gpus} trains on the CPU",
        )
    return int(gpus or processes or 1)


def _torchrun(arguments: Sequence[str]) -> int:
    """Run torchrun in this process; returns 0, the first exit code of a child, or minus the number of a signal."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    try:
        run(parse_args(list(arguments)))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    except SignalException as error:
        return -int(error.sigval)
    except RuntimeError as error:
        raise OpenLdmError(f"torchrun could not start the processes: {error}") from error
    return 0


def _code(ended: int, codes: Mapping[int, int], count: int) -> int:
    """The exit code of a run: that of the first rank that could say one."""
    if codes and (ended or len(codes) == count):
        return codes[min(codes)]
    return ended if ended >= 0 else 128 - ended
