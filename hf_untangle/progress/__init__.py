"""Progress that tells the truth: one bar for a whole call, what it does beneath, what was lost so far, and the time left."""

from hf_untangle.progress.bars import Bar, say, track
from hf_untangle.progress.calls import lost, one_bar, phase, plan_work, predict, whole
from hf_untangle.progress.estimate import COST, Work, WorkKind, about, change, passes

__all__ = [
    "COST",
    "Bar",
    "Work",
    "WorkKind",
    "about",
    "change",
    "lost",
    "one_bar",
    "passes",
    "phase",
    "plan_work",
    "predict",
    "say",
    "track",
    "whole",
]
