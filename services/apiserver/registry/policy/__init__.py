"""Kinds of the policy group: PodDisruptionBudgets."""
