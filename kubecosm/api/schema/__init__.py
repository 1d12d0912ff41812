"""Schemas of the built-in kinds, and decoding of bodies against them.

`decode` and `normalize` turn bodies and built objects into canonical ones (wire.py); `schemas()` gives the definitions (model.py).
"""

from kubecosm.api.schema.model import Definition, Field, Schemas, Type, schemas
from kubecosm.api.schema.wire import IGNORE, STRICT, WARN, decode, normalize

__all__ = ["IGNORE", "STRICT", "WARN", "Definition", "Field", "Schemas", "Type", "decode", "normalize", "schemas"]
