#!/usr/bin/env bash
# torch's threads on a CPU, when one other program is busy on the same cores.
#
# Input: a small transformer layer that is trained on two threads on two cores, alone and beside one process that computes all the
# time. Three threads want two cores, so each gets two thirds of one.
#
# Expected: about two thirds of the quiet rate, or a half, since each step waits for the slower thread.
#
# Seen (torch 2.13.0, Python 3.11, Linux, 2 cores of an Intel Xeon): 0.13 of it, 2.5 steps a second in place of 19; whole trainings
# down to 0.04. GNU's OpenMP, which torch's wheels bring, lets the thread that is done first spin for 300,000 rounds at each of the
# many barriers of a step, and so keep the core that the thread waited for could have had; it does not see the other program, since
# it counts its own threads alone. With GOMP_SPINCOUNT=2000 in the environment before torch is loaded 0.46 of the rate is left.
#
# Exits with 0 while this behaviour is there, with 1 once it changes. Run it on a machine with nothing else to do. No code of this
# project is used.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$work/train.py" <<'PYTHON'
import sys
import time

import torch

torch.manual_seed(0)
torch.set_num_threads(2)
layer = torch.nn.TransformerEncoderLayer(192, 3, 768, dropout=0.0, batch_first=True)
optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
batch = torch.randn(32, 64, 192)
count, started = 0, None
while started is None or time.perf_counter() - started < float(sys.argv[1]):
    optimizer.zero_grad()
    (layer(batch) - batch).square().mean().backward()
    optimizer.step()
    count += 1
    if count == 5:
        started = time.perf_counter()
print((count - 5) / (time.perf_counter() - started))
PYTHON
cat > "$work/compare.py" <<'PYTHON'
import os
import statistics
import subprocess
import sys
import time

cores = sorted(os.sched_getaffinity(0))
if len(cores) < 2:
    sys.exit("needs two cores")
os.sched_setaffinity(0, cores[:2])


def rate(spins, busy):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    if spins:
        environment["GOMP_SPINCOUNT"] = spins
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        time.sleep(0.5)
        command = [sys.executable, sys.argv[1], "4"]
        return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    finally:
        if neighbour:
            neighbour.kill()
            neighbour.wait()


shares = {}
for name, spins in (("as torch is", None), ("GOMP_SPINCOUNT=2000", "2000")):
    rounds = [(rate(spins, False), rate(spins, True)) for _ in range(3)]
    shares[name] = statistics.median(beside / quiet for quiet, beside in rounds)
    print(f"{name}: " + ", ".join(f"{quiet:.1f} steps/s alone, {beside:.1f} beside" for quiet, beside in rounds))
default, short = shares.values()
print(f"share of the quiet rate that is left: {default:.2f} as torch is, {short:.2f} with 2,000 rounds")
sys.exit(0 if default < 0.4 and short > 1.5 * default else 1)
PYTHON
"$work/venv/bin/python" -c 'import torch; print("torch", torch.__version__)'
"$work/venv/bin/python" "$work/compare.py" "$work/train.py"
