#!/usr/bin/env bash
# torch's DataLoader workers under Python's fork server, when the training process is killed.
#
# Input: a data set of numbers, DataLoader(num_workers=2, multiprocessing_context=...), and SIGKILL of the process that reads it, as
# the kernel sends when memory runs out and Slurm at the end of a job's time.
#
# Expected: the workers end within seconds whatever started them. torch promises it: each worker asks every 5 seconds whether its
# parent is still the process that made it.
#
# Seen (torch 2.13.0, Python 3.11, Linux): with "fork" both workers are gone within 5 to 6 seconds. With "forkserver" both are there
# after 20 seconds, and stay for good: their parent is the fork server, not the training; the server ends when the last holder of a
# certain pipe is gone, and each worker holds that pipe. Each waits for the other. The memory of the workers and whatever they
# inherited (locks, ports, shared memory) is never given back. From Python 3.14 on, "forkserver" is what Linux takes by default.
#
# Exits with 0 while this behaviour is there, with 1 once it changes. No code of this project is used.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$work/training.py" <<'PYTHON'
import os
import sys
import time

from torch.utils.data import DataLoader, Dataset


class Numbers(Dataset):
    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: int) -> int:
        open(os.path.join(sys.argv[2], str(os.getpid())), "w").close()
        return index


if __name__ == "__main__":
    for _ in DataLoader(Numbers(), batch_size=4, num_workers=2, multiprocessing_context=sys.argv[1]):
        time.sleep(0.05)
PYTHON
cat > "$work/watch.py" <<'PYTHON'
import os
import signal
import subprocess
import sys
import tempfile
import time

import torch


def runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def left(method: str, seconds: float) -> int:
    """How many workers run `seconds` after their training was killed."""
    with tempfile.TemporaryDirectory() as folder:
        training = subprocess.Popen([sys.executable, sys.argv[1], method, folder])
        while len(os.listdir(folder)) < 2:
            time.sleep(0.1)
        workers = [int(name) for name in os.listdir(folder)]
        training.kill()
        training.wait()
        time.sleep(seconds)
        alive = [worker for worker in workers if runs(worker)]
        for worker in alive:
            os.kill(worker, signal.SIGKILL)
        return len(alive)


found = {method: left(method, 20) for method in ("fork", "forkserver")}
print(f"torch {torch.__version__}, Python {sys.version.split()[0]}: workers alive 20 s after the kill: {found}")
sys.exit(0 if found == {"fork": 0, "forkserver": 2} else 1)
PYTHON
"$work/venv/bin/python" "$work/watch.py" "$work/training.py"
