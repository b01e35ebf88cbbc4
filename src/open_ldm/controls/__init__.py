"""Control conditions: how a training picture was made. Each has its own file; the union below lists those of the package.

A recipe may also name the kind of any other subclass of `Control` that your program defines (examples/own_control.py).
"""

from typing import Annotated

from pydantic import Field, SerializeAsAny, WrapValidator

from open_ldm.controls.aspect_ratio import AspectRatio
from open_ldm.controls.base import Control, ViewShape
from open_ldm.controls.colour import Colour
from open_ldm.controls.crop import Crop
from open_ldm.controls.flip import Flip
from open_ldm.controls.jpeg_quality import JpegQuality
from open_ldm.controls.metadata import Metadata
from open_ldm.controls.original_size import OriginalSize
from open_ldm.controls.own import read_control
from open_ldm.controls.turn import Turn

Packaged = OriginalSize | Crop | Flip | AspectRatio | Colour | JpegQuality | Turn | Metadata

ControlConfig = SerializeAsAny[Annotated[Packaged, Field(discriminator="kind"), WrapValidator(read_control)]]

__all__ = [
    "AspectRatio",
    "Colour",
    "Control",
    "ControlConfig",
    "Crop",
    "Flip",
    "JpegQuality",
    "Metadata",
    "OriginalSize",
    "Turn",
    "ViewShape",
]
