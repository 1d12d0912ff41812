"""CustomResourceDefinitions at work: their names are accepted, their resources served, their instances checked and, at the end, removed.

`registrar` serves definitions, `validation` and `rules` check instances, `conversion` has them converted, `upkeep` writes what became of
definitions.
"""
