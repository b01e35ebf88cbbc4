"""`ldm speedrun`: the time that a training takes to a level that was frozen before."""

from open_ldm.studies.speedrun.cost import Cost, cost_of
from open_ldm.studies.speedrun.run import Speedrun
from open_ldm.studies.speedrun.settings import Choice, Side

__all__ = ["Choice", "Cost", "Side", "Speedrun", "cost_of"]
