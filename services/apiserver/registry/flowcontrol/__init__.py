"""Kinds of the flowcontrol group: FlowSchemas, PriorityLevelConfigurations."""
