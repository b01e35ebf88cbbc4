#!/usr/bin/env bash
# wandb in offline mode, and a process that is killed a few seconds after it logged.
#
# Input: a run in offline mode that logs 50 rows, waits for five seconds and is killed by SIGKILL, as by a scheduler or for memory.
#
# Expected: the 50 rows, or most of them, in the run's .wandb file, since offline mode is there to keep them and a service process of
# its own, which the kill does not reach, takes each row when it is logged.
#
# Seen (wandb 0.31.0, Linux): a file of 7 bytes, which is its header: all rows are lost, and so is the run's own record. The service keeps
# them in memory for up to about half a minute, and drops them when it sees that the process has gone. A run that goes on by what it
# believes to have logged leaves a hole there without a word.
#
# Exits with 0 while this behaviour is there, with 1 once it changes. No code of this project is used.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check wandb==0.31.0
cd "$work"
export WANDB_SILENT=true
cat > logs.py <<'PYTHON'
import os
import signal
import sys
import time

import wandb

run = wandb.init(mode="offline", project="p", id="abc123", dir=sys.argv[1])
for step in range(50):
    run.log({"loss": 1 / (1 + step)}, step=step)
time.sleep(5)
if sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
run.finish()
PYTHON
for how in end kill; do
    mkdir "$how"
    "$work/venv/bin/python" logs.py "$work/$how" "$how" > /dev/null 2>&1 || true
    sleep 3
    stat -c "wandb 0.31.0, $how: %s bytes" "$how"/wandb/offline-run-*/run-abc123.wandb
done
ended=$(stat -c %s end/wandb/offline-run-*/run-abc123.wandb)
killed=$(stat -c %s kill/wandb/offline-run-*/run-abc123.wandb)
[ "$ended" -gt 1000 ] && [ "$killed" -lt 100 ]
