"""Legacy ServiceAccount token cleaner: marks tokens in Secrets that nobody uses as invalid, and removes them when nobody missed them.

Watches Secrets; reads ServiceAccounts and pods. Only Secrets that were made for their account (its `secrets` name them) and that no pod
mounts are touched: the API server notes by a label when a token was last used. Imitates
pkg/controller/serviceaccount/legacy_serviceaccount_token_cleaner.go, each Secret at its own time instead of all once a day.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from kubecosm.api.errors import Conflict, NotFound
from kubecosm.api.meta import Key, uid_of
from kubecosm.api.names import (
    LABEL_TOKEN_INVALID_SINCE,
    LABEL_TOKEN_LAST_USED,
    NAMESPACE_SYSTEM,
    TOKEN_TRACKING_CONFIGMAP,
)
from kubecosm.api.podreferences import named_by_pod
from kubecosm.api.resources import CONFIGMAPS, PODS, SECRETS, SERVICEACCOUNTS, Object
from kubecosm.api.times import parse_time
from kubecosm.client.controller import Context, ControllerSpec, Result, done, requeue
from kubecosm.client.http import PatchType

from ..common.tokensecrets import TokenSecret, token_secret
from ..config import Config

LOOK_SECONDS = 24 * 3600.0
"""How often a token is looked at."""
KEEP, MARK, DELETE = "keep", "mark", "delete"


def day_of(text: str | None) -> date | None:
    """The day that a label names; None if it names none."""
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None


def is_old(secret: Object, period: timedelta, now: datetime) -> bool:
    """Whether a token was neither made nor used for so long. A label that names no day tells nothing, so the token is kept."""
    meta, last = secret["metadata"], (secret["metadata"].get("labels") or {}).get(LABEL_TOKEN_LAST_USED)
    if parse_time(meta["creationTimestamp"]) >= now - period:
        return False
    if last is None:
        return True
    used = day_of(last)
    return used is not None and used < (now - period).date()


def is_named_by(token: TokenSecret, account: Object | None) -> bool:
    """Whether the Secret was made for the account, which then names it."""
    if account is None or not token.is_of(account):
        return False
    return any(reference.get("name") == token.secret["metadata"]["name"] for reference in account.get("secrets") or ())


def plan_step(secret: Object, period: timedelta, tracked_since: datetime, now: datetime) -> str:
    """What to do with an unmounted Secret of an account: first it is marked, and after another period it goes."""
    if now < tracked_since + period or not is_old(secret, period, now):
        return KEEP
    marked = day_of((secret["metadata"].get("labels") or {}).get(LABEL_TOKEN_INVALID_SINCE))
    if marked is None:
        return MARK
    return KEEP if marked >= (now - period).date() else DELETE


class Cleaner:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, period: timedelta) -> None:
        self.SPEC = SPEC
        self._period = period

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        token = token_secret(ctx, key)
        if token is None:
            return done()
        secret, now = token.secret, ctx.clock.now()
        account = ctx.cache(SERVICEACCOUNTS).get(Key(key.namespace, token.account))
        if is_old(secret, self._period, now) and is_named_by(token, account) and not is_mounted(ctx, key):
            since = await tracked_since(ctx)
            step = KEEP if since is None else plan_step(secret, self._period, since, now)
            if step != KEEP:
                return await self._carry_out(ctx, secret, step, now)
        return requeue(after_seconds=LOOK_SECONDS)

    async def _carry_out(self, ctx: Context, secret: Object, step: str, now: datetime) -> Result:
        meta = secret["metadata"]
        try:
            if step == MARK:
                patch = {"metadata": {"uid": uid_of(secret), "labels": {LABEL_TOKEN_INVALID_SINCE: now.date().isoformat()}}}
                written = await ctx.client.patch(SECRETS, meta["name"], patch, meta["namespace"], patch_type=PatchType.MERGE)
                ctx.expect_written(written)
                return requeue(after_seconds=LOOK_SECONDS)
            options = {"preconditions": {"resourceVersion": meta["resourceVersion"]}}
            await ctx.client.delete(SECRETS, meta["name"], meta["namespace"], options=options)
            ctx.expect_deleted(secret)
        except (Conflict, NotFound):
            return requeue(after_seconds=LOOK_SECONDS)  # it has changed, been used perhaps, or is gone
        return done()


def is_mounted(ctx: Context, key: Key) -> bool:
    wanted = ("secrets", key.name)
    return any(wanted in named_by_pod(pod) for pod in ctx.cache(PODS).list(key.namespace))


async def tracked_since(ctx: Context) -> datetime | None:
    """The first whole day on which uses were noted; None if nobody knows."""
    try:
        found = await ctx.client.get(CONFIGMAPS, TOKEN_TRACKING_CONFIGMAP, NAMESPACE_SYSTEM)
    except NotFound:
        return None
    day = day_of((found.get("data") or {}).get("since"))
    return None if day is None else datetime.combine(day + timedelta(days=1), time(), UTC)


SPEC = ControllerSpec(
    name="legacy_service_account_token_cleaner",
    component="legacy-service-account-token-cleaner",
    primary=SECRETS,
    reads=(SERVICEACCOUNTS, PODS),
    workers=1,
)


def build(config: Config) -> Cleaner:
    return Cleaner(timedelta(seconds=config.legacy_service_account_token_clean_up_period))
