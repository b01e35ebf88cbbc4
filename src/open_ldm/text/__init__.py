"""Text encoders, which turn captions into tokens. The union below lists them."""

from typing import Annotated

from pydantic import Field

from open_ldm.text.base import TextEncoder
from open_ldm.text.huggingface import HuggingFaceConfig, HuggingFaceEncoder
from open_ldm.text.tokens import TextTokens
from open_ldm.text.words import Vocabulary, WordsConfig, WordsEncoder

TextEncoderConfig = Annotated[WordsConfig | HuggingFaceConfig, Field(discriminator="kind")]

__all__ = [
    "HuggingFaceConfig",
    "HuggingFaceEncoder",
    "TextEncoder",
    "TextEncoderConfig",
    "TextTokens",
    "Vocabulary",
    "WordsConfig",
    "WordsEncoder",
]
