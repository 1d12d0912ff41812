"""ServiceAccounts. Imitates pkg/registry/core/serviceaccount: references to secrets carry a name and nothing else."""

from __future__ import annotations

from kubecosm.api.resources import Object

from ..strategy import Strategy


class ServiceAccountStrategy(Strategy):
    """A ServiceAccount."""

    def prepare_for_create(self, obj: Object) -> None:
        _clean_references(obj)

    def prepare_for_update(self, obj: Object, old: Object) -> None:
        _clean_references(obj)


def _clean_references(account: Object) -> None:
    if account.get("secrets"):
        account["secrets"] = [{"name": ref["name"]} if ref.get("name") else {} for ref in account["secrets"]]
