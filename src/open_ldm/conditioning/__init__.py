"""Conditioning, which keeps what the picture shows (semantic) apart from how it was made (control)."""

from open_ldm.conditioning.conditioning import Conditioning, ConditioningConfig
from open_ldm.conditioning.inputs import ConditionInputs, Conditions

__all__ = ["ConditionInputs", "Conditioning", "ConditioningConfig", "Conditions"]
