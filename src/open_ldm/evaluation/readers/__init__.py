"""Readers: what a picture shows, told by something that knows no model. A new kind is one file and one line in the union."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from open_ldm.evaluation.readers.base import Reader, Reading, mirrored
from open_ldm.evaluation.readers.classifier import ClassifierReader, ClassifierReaderConfig
from open_ldm.evaluation.readers.shapes import READ_WHEN_COARSE, ShapesReader, ShapesReaderConfig

ReaderConfig = Annotated[ShapesReaderConfig | ClassifierReaderConfig, Field(discriminator="kind")]

__all__ = [
    "READ_WHEN_COARSE",
    "ClassifierReader",
    "ClassifierReaderConfig",
    "Reader",
    "ReaderConfig",
    "Reading",
    "ShapesReader",
    "ShapesReaderConfig",
    "mirrored",
]
