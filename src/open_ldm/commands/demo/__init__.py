"""`ldm demo`: the paper in minutes. Two models learn the same entangled drawings, conditioned as in SDXL and improved."""

from open_ldm.commands.demo.captions import caption_groups
from open_ldm.commands.demo.run import DemoResult, run_demo
from open_ldm.commands.demo.versions import FULL, QUICK

__all__ = ["FULL", "QUICK", "DemoResult", "caption_groups", "run_demo"]
