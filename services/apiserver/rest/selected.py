"""Lists by fields that only converted objects have: entries are read, converted by the webhook and looked at, a batch at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from kubecosm.api.errors import Expired
from kubecosm.api.selectors import FieldSelector

from ..cache.entry import Entry, with_revision
from ..cache.selection import Selection
from ..storage.contract import CompactedError
from .store import ResourceStore

BATCH = 500
"""Entries that are converted at once."""


def split(selection: Selection) -> tuple[Selection, FieldSelector]:
    """What can be told of stored objects, and the fields that only converted ones have."""
    plain = [one for one in selection.fields.requirements if one.field.startswith("metadata.")]
    rest = [one for one in selection.fields.requirements if not one.field.startswith("metadata.")]
    return replace(selection, fields=FieldSelector(tuple(plain))), FieldSelector(tuple(rest))


async def select(
    store: ResourceStore, selection: Selection, *, after: str = "", limit: int = 0, revision: int | None = None
) -> tuple[list[Entry], bool]:
    """(entries behind a key that match, at most `limit`; whether there are more), as of a revision (None: now). Raises ApiError."""
    base, wanted = split(selection)
    found: list[Entry] = []
    batches = _of_cache(store, base, after) if revision is None else _of_storage(store, base, after, revision)
    async for entries in batches:
        await store.prepare([entry.decode() for entry in entries])
        for entry in entries:
            if not wanted.matches(store.served_fields(entry.decode())):
                continue
            if limit and len(found) == limit:
                return found, True
            found.append(entry)
    return found, False


async def _of_cache(store: ResourceStore, base: Selection, after: str) -> AsyncIterator[list[Entry]]:
    more = True
    while more:
        page = store.cache.page(base, after=after, limit=BATCH)
        more = page.more
        if page.entries:
            after = page.entries[-1].key
            yield list(page.entries)


async def _of_storage(store: ResourceStore, base: Selection, after: str, revision: int) -> AsyncIterator[list[Entry]]:
    prefix = store.prefix + (f"{base.namespace}/" if base.namespace else "")
    start, more = store.prefix + after + "\0" if after else "", True
    while more:
        try:
            listed = await store.state.storage.list(prefix=prefix, revision=revision, start=start, limit=BATCH)
        except CompactedError as error:
            raise Expired(f"The resourceVersion for the provided list is too old. ({error})") from error
        entries = [Entry(item.key[len(store.prefix) :], with_revision(item.value, item.revision), item.revision) for item in listed.items]
        more = listed.more
        if listed.items:
            start = listed.items[-1].key + "\0"
        yield [entry for entry in entries if base.is_plain or base.matches(entry, store.cache.attributes_of)]
