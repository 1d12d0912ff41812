"""A Store that encrypts what goes into another one and decrypts what comes out of it.

It also remembers which keys were written otherwise than they would be now, so that a write that changes nothing rewrites them: that is how
keys are rotated. Everything above, caches included, sees plain text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kubecosm.runtime.logs import get_logger

from ..cache.caches import ROOT
from ..configfiles import Reloads
from ..storage.contract import Change, Deliver, Found, Item, Listed, StorageError, Store, Subscription, Written
from .config import Entry, providers_for
from .kms import Kms
from .metrics import FROM_STORAGE, TO_STORAGE, TransformationMetrics
from .providers import Provider

log = get_logger("apiserver")


class EncryptingStore:
    """The Store of `storage.contract` around another one."""

    def __init__(self, inner: Store, entries: Sequence[Entry]) -> None:
        self._inner = inner
        self._entries = tuple(entries)
        self._providers: dict[str, tuple[Provider, ...]] = {}
        self._written_by: dict[str, bytes] = {}  # key → the stamp of its newest value
        self.reloads = Reloads("encryption")
        self.metrics = TransformationMetrics(lambda: self.plugins)

    def configure(self, entries: Sequence[Entry]) -> None:
        """Write and read by other rules from now on."""
        before, self._entries = self.plugins, tuple(entries)
        self._providers.clear()
        for plugin in before:
            plugin.close()

    @property
    def plugins(self) -> list[Kms]:
        """The providers that others have the keys of."""
        found = (provider for entry in self._entries for provider in entry.providers if isinstance(provider, Kms))
        return list(dict.fromkeys(found))

    def is_stale(self, key: str) -> bool:
        """Whether the newest value of a key is stored otherwise than it would be written now."""
        providers = self._providers_of(key)
        return self._written_by.get(key, b"") != (providers[0].stamp if providers else b"")

    def _providers_of(self, key: str) -> tuple[Provider, ...]:
        group, _, rest = key[len(ROOT) :].partition("/")
        plural = rest.partition("/")[0]
        resource = f"{group}/{plural}"
        found = self._providers.get(resource)
        if found is None:
            found = self._providers[resource] = providers_for(self._entries, "" if group == "core" else group, plural)
        return found

    # ---- writing

    @property
    def revision(self) -> int:
        return self._inner.revision

    @property
    def compacted_revision(self) -> int:
        return self._inner.compacted_revision

    @property
    def is_full(self) -> bool:
        return self._inner.is_full

    async def create(self, *, key: str, value: bytes) -> Written:
        return await self._inner.create(key=key, value=self._encrypted(key, value))

    async def update(
        self, *, key: str, value: bytes, expected_revision: int, accepted: Callable[[], None] | None = None
    ) -> Written:
        encrypted = self._encrypted(key, value)
        return await self._inner.update(key=key, value=encrypted, expected_revision=expected_revision, accepted=accepted)

    async def delete(self, *, key: str, expected_revision: int) -> Written:
        return await self._inner.delete(key=key, expected_revision=expected_revision)

    def _encrypted(self, key: str, value: bytes) -> bytes:
        providers = self._providers_of(key)
        if not providers:
            return value
        writer = providers[0]
        try:
            with self.metrics.timed(TO_STORAGE, resource_of(key), writer.prefix):
                return writer.prefix + writer.encrypt(value, key.encode())
        except ValueError as error:
            raise StorageError(f'unable to transform key "{key}": {error}') from error

    # ---- reading

    def _decrypted(self, key: str, value: bytes) -> tuple[bytes, bytes]:
        """(plain text, the stamp of who wrote it). Raises StorageError."""
        providers = self._providers_of(key)
        if not providers:
            if value.startswith(b"k8s:enc:"):
                raise _unreadable(key, "it is encrypted, but no provider is configured for it")
            return value, b""
        last: ValueError | None = None
        for provider in providers:
            if not value.startswith(provider.prefix):
                continue
            rest = value[len(provider.prefix) :]
            try:
                with self.metrics.timed(FROM_STORAGE, resource_of(key), provider.prefix):
                    return provider.decrypt(rest, key.encode()), provider.stamp_of(rest)
            except ValueError as error:
                last = error
        raise _unreadable(key, str(last) if last else "no matching prefix found")

    def _read(self, item: Item) -> Item:
        return Item(item.key, self._decrypted(item.key, item.value)[0], item.revision)

    async def get(self, *, key: str, revision: int = 0) -> Found:
        found = await self._inner.get(key=key, revision=revision)
        return found if found.item is None else Found(found.revision, self._read(found.item))

    async def list(self, *, prefix: str, revision: int = 0, start: str = "", limit: int = 0) -> Listed:
        listed = await self._inner.list(prefix=prefix, revision=revision, start=start, limit=limit)
        items = []
        for item in listed.items:
            try:
                plain, stored_with = self._decrypted(item.key, item.value)
            except StorageError:
                if await self._is_newest(item):
                    raise
                continue  # it has been written anew since, as a rotation of keys asks for
            if stored_with:
                self._written_by.setdefault(item.key, stored_with)
            items.append(Item(item.key, plain, item.revision))
        return Listed(listed.revision, tuple(items), listed.more)

    async def _is_newest(self, item: Item) -> bool:
        newest = (await self._inner.get(key=item.key)).item
        return newest is not None and newest.revision == item.revision

    async def subscribe(self, *, prefix: str, after_revision: int, deliver: Deliver) -> Subscription:
        unreadable: dict[str, StorageError] = {}
        is_history = True

        def decrypt(changes: Sequence[Change]) -> None:
            plain = []
            for change in changes:
                try:
                    plain.append(self._plain_change(change))
                    unreadable.pop(change.key, None)
                except StorageError as error:
                    unreadable[change.key] = error
                    if not is_history:  # another server wrote it with a key that this one does not have
                        log.error("a change cannot be read", key=change.key, revision=change.revision, error=str(error))
            if plain:
                deliver(plain)

        subscription = await self._inner.subscribe(prefix=prefix, after_revision=after_revision, deliver=decrypt)
        is_history = False
        for error in unreadable.values():  # old versions may be lost to old keys, the newest must not be
            subscription.close()
            raise error
        return subscription

    def _plain_change(self, change: Change) -> Change:
        """Raises StorageError."""
        if change.value is None:
            self._written_by.pop(change.key, None)
            return change
        value, stored_with = self._decrypted(change.key, change.value)
        if stored_with:
            self._written_by[change.key] = stored_with
        else:
            self._written_by.pop(change.key, None)
        return Change(change.key, value, change.revision)

    async def compact(self, *, revision: int) -> None:
        await self._inner.compact(revision=revision)

    async def close(self) -> None:
        for plugin in self.plugins:
            plugin.close()
        await self._inner.close()


def resource_of(key: str) -> str:
    """`secrets`, `deployments.apps`."""
    group, plural, *_ = key[len(ROOT) :].split("/", 2)
    return plural if group == "core" else f"{plural}.{group}"


def _unreadable(key: str, why: str) -> StorageError:
    name, resource = key[len(ROOT) :].split("/")[2:], resource_of(key)
    advice = "check the keys in --encryption-provider-config"
    return StorageError(f'unable to transform key "{key}" ({resource} "{"/".join(name)}"): {why}; {advice}')
