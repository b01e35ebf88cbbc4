"""Control conditions: how a training picture was made. One file each; this union lists them."""

from typing import Annotated

from pydantic import Field

from open_ldm.controls.aspect_ratio import AspectRatio
from open_ldm.controls.base import Control, ViewShape
from open_ldm.controls.crop import Crop
from open_ldm.controls.flip import Flip
from open_ldm.controls.original_size import OriginalSize

ControlConfig = Annotated[OriginalSize | Crop | Flip | AspectRatio, Field(discriminator="kind")]

__all__ = ["AspectRatio", "Control", "ControlConfig", "Crop", "Flip", "OriginalSize", "ViewShape"]
