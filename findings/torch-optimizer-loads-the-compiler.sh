#!/usr/bin/env bash
# What one step of torch's AdamW and one embedding without values load.
#
# Input: a linear layer of six weights with a gradient, and one step of AdamW (fused) on it; an embedding built on the meta
# device. Nothing is compiled, and nothing asks for it.
#
# Expected: both take milliseconds once torch is imported, as its function torch.optim.adamw.adamw does, which makes the same step.
#
# Seen (torch 2.13.0, Python 3.11, Linux, 2 cores of an AMD EPYC): creating torch.optim.AdamW imports torch's compiler, some 800
# more modules, and takes about as long again as `import torch` did (2 seconds, 5 beside other programs). So does drawing normal
# values on the meta device, where there are none to draw: they are decomposed there in Python, behind a wrapper that the compiler
# must not look into. A program that takes one step, such as a test, starts twice as fast by the function.
#
# Exits with 0 while this behaviour is there, with 1 once it changes. No code of this project is used.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$work/step.py" <<'PYTHON'
import sys
import time

started = time.perf_counter()
import torch
from torch.optim.adamw import adamw

imported = time.perf_counter() - started
kind, before = sys.argv[1], len(sys.modules)
started = time.perf_counter()
layer = torch.nn.Linear(3, 2)
layer(torch.ones(1, 3)).sum().backward()
weights = list(layer.parameters())
if kind == "class":
    torch.optim.AdamW(weights, lr=1e-3, fused=True).step()
elif kind == "function":
    means, squares = ([torch.zeros_like(each) for each in weights] for _ in range(2))
    steps = [torch.zeros(()) for _ in weights]
    with torch.no_grad():
        adamw(
            weights, [each.grad for each in weights], means, squares, [], steps, fused=True, amsgrad=False,
            beta1=0.9, beta2=0.999, lr=1e-3, weight_decay=1e-2, eps=1e-8, maximize=False,
        )  # fmt: skip
elif kind == "embedding on meta":
    with torch.device("meta"):
        torch.nn.Embedding(5, 3)
loaded = "torch._dynamo" in sys.modules
print(f"{kind}: {time.perf_counter() - started:.2f} s after {imported:.2f} s of import, {len(sys.modules) - before} modules, "
      f"compiler loaded: {loaded}")
sys.exit(3 if loaded else 0)
PYTHON
"$work/venv/bin/python" -c 'import torch; print("torch", torch.__version__)'
seen=""
for kind in class function "embedding on meta" nothing; do
  code=0
  "$work/venv/bin/python" "$work/step.py" "$kind" || code=$?
  seen="$seen$code "
done
[ "$seen" = "3 0 3 0 " ]
