"""The contract between the generic REST store and what differs per kind, and its default implementation.

The store calls, on create: `default` → admission → `prepare_for_create` → metadata validation → `validate` → `canonicalize`;
on update: `default` → admission → `prepare_for_update` → metadata validation → `validate_update`. Kinds that hold something beside
their stored objects (`is_stateful`: Services hold addresses and ports) are started once with what is stored; for them the store
calls `begin_create`/`begin_update` after admission and before `prepare_for_…`, the Finish it got as soon as the fate of the write
is known (also when anything raises), and `after_delete` once an object is gone. Objects handed in as `obj` are
the caller's own and may be changed in place; `old` is stored state and must not be touched, nor may parts of it be changed after
they were moved into `obj`.

Metadata common to all kinds (names, labels, ownerReferences, finalizers, managedFields, deletion) is the store's business, not a
strategy's. `kinds.py` imports every module that registers strategies; the server imports `kinds` once.
Imitates k8s.io/apiserver/pkg/registry/rest: RESTCreateStrategy, RESTUpdateStrategy, RESTDeleteStrategy.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kubecosm.api.field import FieldError
from kubecosm.api.resources import Object, Resource
from kubecosm.api.schema import prune
from kubecosm.runtime.clock import Clock
from kubecosm.runtime.ranges import SERVICE_CIDR

Finish = Callable[[bool], None]
"""Called with whether the write took place."""


def _nothing_to_finish(succeeded: bool) -> None:
    pass


@dataclass(frozen=True)
class Settings:
    """What kinds need to know of the server's flags."""

    service_cluster_ip_range: str = SERVICE_CIDR
    service_node_port_range: tuple[int, int] = (30000, 32767)


_RBAC = "rbac.authorization.k8s.io"
CREATED_ON_UPDATE = frozenset((
    ("", "endpoints"), ("", "events"), ("", "limitranges"), ("", "podtemplates"), ("", "services"), ("coordination.k8s.io", "leases"),
    (_RBAC, "roles"), (_RBAC, "rolebindings"), (_RBAC, "clusterroles"), (_RBAC, "clusterrolebindings"),
    ("scheduling.k8s.io", "priorityclasses"),
))  # fmt: skip
"""(group, plural) of the kinds whose strategies allow create on update."""
ORPHANS_DEPENDENTS = frozenset((("", "replicationcontrollers"), ("batch", "jobs")))
RETURNS_DELETED = frozenset((
    ("", "pods"), ("", "podtemplates"), ("", "services"), ("", "serviceaccounts"), ("", "namespaces"), ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"), ("", "resourcequotas"), ("storage.k8s.io", "storageclasses"), ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"), ("storage.k8s.io", "volumeattachments"), ("storage.k8s.io", "volumeattributesclasses"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
))  # fmt: skip


class Strategy:
    """How objects of one resource are born and changed. The default treats any kind sensibly; kinds override what differs."""

    allow_create_on_update: bool
    """PUT of a missing object creates it."""
    allow_unconditional_update = True
    """An update may leave metadata.resourceVersion out."""
    tracks_generation = True
    """metadata.generation starts at 1 and grows when anything but metadata and status changes (kinds with a status subresource only)."""

    is_stateful = False
    """Whether `start`, `begin_create`, `begin_update` and `after_delete` matter."""

    clock: Clock | None = None
    """The server's time, for kinds that note when something happened; the store sets it."""

    orphans_dependents: bool
    """Without a propagationPolicy, a delete leaves the dependents alone (ReplicationControllers and Jobs, for compatibility)."""

    returns_deleted_object: bool
    """A delete answers the object that was removed, not a Status (generic registry: ReturnDeletedObject)."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.has_status = resource.subresource("status") is not None
        key = (resource.group, resource.plural)
        self.allow_create_on_update = key in CREATED_ON_UPDATE
        self.orphans_dependents = key in ORPHANS_DEPENDENTS
        self.returns_deleted_object = key in RETURNS_DELETED

    def start(self, settings: Settings, rng: random.Random, stored: Iterable[Object]) -> None:
        """Take up what the stored objects hold; called once, before the first write."""

    def begin_create(self, obj: Object, *, dry_run: bool) -> Finish:
        """Reserve what the new object needs and write it into the object. Raises ApiError."""
        return _nothing_to_finish

    def begin_update(self, obj: Object, old: Object, *, dry_run: bool) -> Finish:
        """Reserve and, once the write took place, release what the change needs. Raises ApiError."""
        return _nothing_to_finish

    def after_delete(self, obj: Object) -> None:
        """Release what the removed object held."""

    def set_requester(self, obj: Object, username: str, uid: str, groups: list[str], extra: dict[str, list[str]]) -> None:
        """Note in a new object who asked for it (CertificateSigningRequests); called before `prepare_for_create`."""

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        """What is wrong with a metadata.name; `prefix` says it is a generateName (a trailing dash is then no fault)."""
        return dns1123_subdomain_name(name, prefix=prefix)

    def default(self, obj: Object) -> None:
        """Fill in what the client left out (SetDefaults_<Kind>); in place, idempotent."""

    def prepare_for_create(self, obj: Object) -> None:
        """Drop what a client may not set: status, and set the first generation."""
        if self.has_status:
            obj.pop("status", None)
            if self.tracks_generation:
                obj["metadata"]["generation"] = 1

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        """Keep the stored status; bump metadata.generation when the desired state changed."""
        if self.has_status:
            keep_field(obj, old, "status")
            if self.tracks_generation:
                bump_generation(obj, old)

    def validate(self, obj: Object) -> list[FieldError]:
        """Complaints about a new object, in Kubernetes' order and words."""
        return []

    tolerated: Sequence[str] = ()
    """What the last `validate_update` found wrong but did not hold against the update, since it was so before."""

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Complaints about a changed object; includes those `validate` would make where Kubernetes does."""
        return self.validate(obj)

    def canonicalize(self, obj: Object) -> None:
        """Bring an accepted object into its normal form."""

    def prune(self, obj: Object) -> None:
        """Make the object what is stored: `kubecosm.api.schema.prune()`, or as much of it as is not done yet."""
        prune(obj)

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        """Texts for Warning headers of a create (old None) or an update."""
        return []

    def grace_period_seconds(self, obj: Object, requested: int | None) -> int | None:
        """The grace period of a delete; None: this kind is deleted at once."""
        return None

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        """What a fieldSelector may name besides metadata.name and metadata.namespace."""
        return {}

    def selectable_field_names(self) -> tuple[str, ...]:
        """The labels that `selectable_fields` answers, for the 400 about an unknown one."""
        return ()


class SpecStrategy(Strategy):
    """A kind that has a spec, whose changes are counted, but no status."""

    def prepare_for_create(self, obj: Object) -> None:
        obj["metadata"]["generation"] = 1

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        changed = obj["spec"] != old["spec"]
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + changed


class StatusStrategy(Strategy):
    """The status subresource: only status (and the metadata a status writer may touch) comes from the client."""

    def __init__(self, main: Strategy) -> None:
        super().__init__(main.resource)
        self.main = main
        self.allow_unconditional_update = main.allow_unconditional_update

    def default(self, obj: Object) -> None:
        self.main.default(obj)

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        for field in obj.keys() | old.keys():
            if field not in ("kind", "apiVersion", "metadata", "status"):
                keep_field(obj, old, field)
        keep_field(obj["metadata"], old["metadata"], "generation")

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        return []

    def selectable_fields(self, obj: Object) -> dict[str, str]:
        return self.main.selectable_fields(obj)


def keep_field(obj: Object, old: Object, field: str) -> None:
    """Undo a client's change of one field."""
    if field in old:
        obj[field] = old[field]
    else:
        obj.pop(field, None)


_NOT_SPEC = ("metadata", "status", "kind", "apiVersion")


def bump_generation(obj: Object, old: Object) -> None:
    """metadata.generation is the old one, plus one if anything but metadata and status changed."""
    generation = old["metadata"].get("generation", 0)
    changed = any(obj.get(f) != old.get(f) for f in obj.keys() | old.keys() if f not in _NOT_SPEC)
    if changed:
        generation += 1
    if generation:
        obj["metadata"]["generation"] = generation
    else:
        obj["metadata"].pop("generation", None)


def dns1123_subdomain_name(name: str, *, prefix: bool) -> list[str]:
    """NameIsDNSSubdomain of apimachinery."""
    from kubecosm.api.validation import dns1123_subdomain

    return dns1123_subdomain(name[:-1] + "a" if prefix and name.endswith("-") else name)


Factory = Callable[[Resource], Strategy]
_FACTORIES: dict[tuple[str, str, str], Factory] = {}
"""(group, plural, subresource) → how to make its strategy; filled by the kinds' modules through `register`."""


def register(resource: Resource, factory: Factory, subresource: str = "") -> None:
    """Make `factory` answer for all versions of a resource (or of its subresource)."""
    _FACTORIES[resource.group, resource.plural, subresource] = factory


def strategy_for(resource: Resource, subresource: str = "") -> Strategy:
    """A new strategy of a resource or subresource; callers keep it. Unregistered kinds get the default one."""
    factory = _FACTORIES.get((resource.group, resource.plural, subresource))
    if factory is not None:
        return factory(resource)
    if subresource == "status":
        return StatusStrategy(strategy_for(resource))
    return Strategy(resource) if not subresource else strategy_for(resource)
