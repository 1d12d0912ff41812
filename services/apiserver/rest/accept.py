"""What the client wants to read: media type and transformation (Table, PartialObjectMetadata) out of its Accept header.

Imitates k8s.io/apiserver/pkg/endpoints/handlers/negotiation. Protobuf and CBOR are passed over: clients that ask for them list JSON behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from kubecosm.api.errors import NotAcceptable

JSON_TYPE, YAML_TYPE, MSGPACK_TYPE = "application/json", "application/yaml", "application/msgpack"
_SERVED = {JSON_TYPE: JSON_TYPE, "application/*": JSON_TYPE, "*/*": JSON_TYPE, "*": JSON_TYPE, YAML_TYPE: YAML_TYPE,
           MSGPACK_TYPE: MSGPACK_TYPE}  # fmt: skip
SERVED_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
TRANSFORMS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
HEADERS_CACHED_MAX = 512


@dataclass(frozen=True, slots=True)
class Accepted:
    """`transform` is "" or one of TRANSFORMS, in meta.k8s.io/`version`; `lean`: without managedFields (`;managedFields=omit`)."""

    media_type: str = JSON_TYPE
    transform: str = ""
    version: str = "v1"
    pretty: bool = False
    lean: bool = False

    @property
    def is_plain(self) -> bool:
        return not self.transform and self.media_type == JSON_TYPE and not self.pretty


PLAIN = Accepted()


@lru_cache(maxsize=HEADERS_CACHED_MAX)
def accepted(header: str, tabular: bool = True) -> Accepted:
    """The first alternative we can serve; what is not `tabular` cannot be a Table. Raises NotAcceptable."""
    if not header:
        return PLAIN
    for _, _, media_type, params in sorted(_alternatives(header), key=lambda a: (-a[0], a[1])):
        served = _SERVED.get(media_type)
        transform = params.get("as", "")
        if served is None or (transform and (transform not in TRANSFORMS or params.get("g") != "meta.k8s.io")):
            continue
        if transform == "Table" and not tabular:
            continue
        if transform and params.get("v") not in ("v1", "v1beta1"):
            continue
        lean = params.get("managedfields") == "omit"
        return Accepted(served, transform, params.get("v", "v1"), params.get("pretty") in ("1", "true"), lean)
    raise NotAcceptable(f"only the following media types are accepted: {', '.join(SERVED_TYPES)}")


def _alternatives(header: str) -> list[tuple[float, int, str, dict[str, str]]]:
    found = []
    for position, alternative in enumerate(header.split(",")):
        media_type, *raw_params = (part.strip() for part in alternative.split(";"))
        params = {k.strip().lower(): v.strip() for k, _, v in (p.partition("=") for p in raw_params)}
        try:
            quality = float(params.get("q", "1"))
        except ValueError:
            quality = 0.0
        found.append((quality, position, media_type.lower(), params))
    return found
