"""Kinds of the apiextensions group: CustomResourceDefinitions and the checks of their schemas."""
