"""Objectives score coalitions of filters: one file for each, `base` holds the contract."""

from repairkit.objectives.accuracy import Accuracy
from repairkit.objectives.attack_success import AttackSuccess
from repairkit.objectives.base import Objective, ObjectiveSum, Probability
from repairkit.objectives.class_recall import ClassRecall
from repairkit.objectives.log_loss import LogLoss
from repairkit.objectives.recall_gap import RecallGap
from repairkit.objectives.subgroup_recall import SubgroupRecall

__all__ = ["Accuracy", "AttackSuccess", "ClassRecall", "LogLoss", "Objective", "ObjectiveSum", "Probability", "RecallGap", "SubgroupRecall"]
