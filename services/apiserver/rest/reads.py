"""GET of one object and LIST: resourceVersion rules, pages, selectors.

Lists are served from the cache. Only an exact old version, or the next page of a list that has changed since, is read from the storage.
Imitates the semantics described in Kubernetes' API concepts ("resourceVersion parameter").
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode

import orjson

from kubecosm.api.errors import BadRequest, Expired, Gone, Timeout
from kubecosm.api.field import go_quote
from kubecosm.api.resources import Object

from ..cache.entry import Entry, with_revision
from ..cache.selection import Selection
from ..http.request import Request
from ..http.response import Answer
from ..storage.contract import CompactedError
from .options import ListOptions, list_options, revision_of
from .represent import answer_entry, answer_list
from .store import ResourceStore

FRESH_WAIT_SECONDS_MAX = 3.0
"""How long a read waits for a resourceVersion that has not been reached."""
CONTINUE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue "
    "parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token "
    "results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and "
    "now may show up in the list."
)


OWN_FIELD_LABELS = frozenset((
    ("", "events"), ("", "namespaces"), ("", "nodes"), ("", "pods"), ("", "replicationcontrollers"), ("", "secrets"), ("", "services"),
    ("certificates.k8s.io", "certificatesigningrequests"), ("events.k8s.io", "events"),
))  # fmt: skip
"""Kinds that check field labels themselves, and word the refusal differently (AddFieldLabelConversionFunc)."""


async def get(store: ResourceStore, request: Request) -> Answer:
    """One object. `resourceVersion` means: not older than."""
    info = request.info
    if request.raw_query:
        await wait_not_older(store, revision_of(request.param("resourceVersion")))
    return answer_entry(request, store, store.entry(info.namespace, info.name))


async def list_objects(store: ResourceStore, request: Request) -> Answer:
    options = list_options(request, watch=False)
    selection = selection_of(store, request.info.namespace, options)
    revision, after, moment = await place_of(store, options)
    if moment is not None:
        return await _page_of_storage(store, request, selection, options, moment, after=after)
    return _page_of_cache(store, request, selection, options, revision, after=after)


async def place_of(store: ResourceStore, options: ListOptions) -> tuple[int, str, int | None]:
    """(the revision a list is told as of, the key it goes on behind, the revision it is read from the storage at: None for the cache).

    Raises ApiError.
    """
    caches = store.state.caches
    if options.continue_token:
        if options.resource_version and options.resource_version != "0":
            raise BadRequest("specifying resource version is not allowed when using continue")
        revision, after = decode_token(options.continue_token)
        if revision < 0 or store.cache.revision <= revision <= caches.revision:
            return caches.revision if revision < 0 else revision, after, None
        if revision < store.state.storage.compacted_revision or revision > caches.revision:
            raise _with_token(Expired(CONTINUE_EXPIRED), encode_token(-1, after))
        return revision, after, revision
    version = revision_of(options.resource_version)
    if version:
        await wait_not_older(store, version)
    exact = options.match == "Exact" or (options.limit and version and not options.match)
    if exact and version < store.cache.revision:
        return version, "", version
    return version if exact else caches.revision, "", None


def selection_of(store: ResourceStore, namespace: str, options: ListOptions) -> Selection:
    """Raises BadRequest for a field that cannot be selected by."""
    if not options.fields.is_everything:
        known = store.strategy.selectable_field_names()
        for requirement in options.fields.requirements:
            if requirement.field not in known and requirement.field not in ("metadata.name", "metadata.namespace"):
                raise BadRequest(_unknown_field(store, requirement.field))
    return Selection(namespace if store.row.namespaced else "", options.labels, options.fields)


def _unknown_field(store: ResourceStore, field: str) -> str:
    row = store.row
    if row.group == "batch" and row.plural == "jobs":
        return f'field label "{field}" not supported for Job'
    if (row.group, row.plural) in OWN_FIELD_LABELS:
        return f"field label not supported: {field}"
    return f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'


def _page_of_cache(
    store: ResourceStore, request: Request, selection: Selection, options: ListOptions, revision: int, *, after: str
) -> Answer:
    cache = store.cache
    page = cache.page(selection, after=after, limit=options.limit)
    cache.lists += 1
    cache.looked_at += page.looked_at
    cache.returned += len(page.entries)
    token = encode_token(revision, page.entries[-1].key) if page.more else ""
    return answer_list(request, store, page.entries, revision, token, page.remaining)


async def _page_of_storage(
    store: ResourceStore, request: Request, selection: Selection, options: ListOptions, revision: int, *, after: str
) -> Answer:
    """A page as of an older revision."""
    prefix = store.prefix + (f"{selection.namespace}/" if selection.namespace else "")
    start = store.prefix + after + "\0" if after else ""
    found: list[Entry] = []
    more, whole = True, selection.is_plain
    while more and (not options.limit or len(found) <= options.limit):
        want = options.limit + 1 - len(found) if options.limit else 0
        try:
            listed = await store.state.storage.list(prefix=prefix, revision=revision, start=start, limit=want)
        except CompactedError as error:
            raise Expired(f"The resourceVersion for the provided list is too old. ({error})") from error
        for item in listed.items:
            entry = Entry(item.key[len(store.prefix) :], with_revision(item.value, item.revision), item.revision)
            if whole or selection.matches(entry, store.cache.attributes_of):
                found.append(entry)
        more = listed.more
        if listed.items:
            start = listed.items[-1].key + "\0"
    if not options.limit or len(found) <= options.limit:
        return answer_list(request, store, found, revision, "", None)
    found = found[: options.limit]
    return answer_list(request, store, found, revision, encode_token(revision, found[-1].key), None)


def _with_token(error: Gone | Expired, token: str) -> Gone | Expired:
    """The Status of an expired token brings one to go on with, at the price of consistency."""
    error.metadata = {"continue": token}
    return error


def encode_token(revision: int, key: str) -> str:
    """Where a list goes on: behind `key`, as of a revision (-1: the newest)."""
    raw: Object = {"v": "meta.k8s.io/v1", "rv": revision, "start": key + "\0"}
    return urlsafe_b64encode(orjson.dumps(raw)).decode().rstrip("=")


def decode_token(token: str) -> tuple[int, str]:
    """Raises BadRequest."""
    try:
        raw = orjson.loads(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, revision, start = raw["v"], int(raw["rv"]), str(raw["start"])
    except (ValueError, KeyError, TypeError):
        raise _bad_token("it does not name a place in a list") from None
    if version != "meta.k8s.io/v1":
        raise _bad_token(f"server does not recognize this encoded version {go_quote(str(version))}")
    return revision, start.removesuffix("\0")


def _bad_token(why: str) -> BadRequest:
    return BadRequest(f"invalid continue token: continue key is not valid: {why}")


async def wait_not_older(store: ResourceStore, revision: int) -> None:
    """Raises Timeout (with advice to retry) if a revision is not reached soon."""
    caches = store.state.caches
    if revision <= caches.revision:
        return
    try:
        async with asyncio.timeout(FRESH_WAIT_SECONDS_MAX):
            await caches.wait_revision(revision)
    except TimeoutError:
        raise too_large_version(revision, caches.revision) from None


def too_large_version(revision: int, current: int) -> Timeout:
    """storage.NewTooLargeResourceVersionError."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    message = f"Timeout: Too large resource version: {revision}, current: {current}"
    return Timeout(message, details={"causes": [cause]}, retry_after_seconds=1)


