"""Kinds of the node group: RuntimeClasses."""
