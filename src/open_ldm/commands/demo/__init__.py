"""`ldm demo`: the paper in five minutes. Two models learn the same entangled drawings, conditioned as in SDXL and improved."""

from open_ldm.commands.demo.captions import caption_groups
from open_ldm.commands.demo.run import DemoResult, run_demo

__all__ = ["DemoResult", "caption_groups", "run_demo"]
