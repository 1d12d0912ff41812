"""Kinds of the scheduling group: PriorityClasses."""
