"""Schemas of the built-in kinds, and decoding of bodies against them.

`decode` turns bodies into objects, `prune` objects into what is stored, `normalize` does both to built ones (wire.py).
`schemas()` gives the definitions (model.py).
"""

from kubecosm.api.schema.model import Definition, Field, Schemas, Type, schemas
from kubecosm.api.schema.wire import IGNORE, STRICT, WARN, decode, normalize, prune

__all__ = ["IGNORE", "STRICT", "WARN", "Definition", "Field", "Schemas", "Type", "decode", "normalize", "prune", "schemas"]
