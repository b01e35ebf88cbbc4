"""`ldm plan`: what a training needs of memory, time and disk, before it is started."""

from open_ldm.commands.plan.plan import Plan, plan

__all__ = ["Plan", "plan"]
