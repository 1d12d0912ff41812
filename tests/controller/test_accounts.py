"""Every controller acts as an account whose rights the API server's default policy knows."""

from __future__ import annotations

from kubecosm.services.apiserver.authz.bootstrap import bootstrap_policy
from kubecosm.services.controller.accounts import ACCOUNTS, OWN_IDENTITY
from kubecosm.services.controller.table import NAMES


def test_every_controller_has_an_account_or_says_that_it_has_none() -> None:
    missing = set(NAMES) - set(ACCOUNTS) - OWN_IDENTITY
    advice = "add it to services/controller/accounts.py, and what its account may do to authz/bootstrap.py if Kubernetes has no role for it"
    assert not missing, f"{', '.join(sorted(missing))}: {advice}"


def test_every_account_has_rights() -> None:
    bound = {
        subject["name"] for _, obj in bootstrap_policy() for subject in obj.get("subjects") or () if subject["kind"] == "ServiceAccount"
    }
    assert {ACCOUNTS[name] for name in NAMES if name in ACCOUNTS} <= bound


def test_no_account_is_kept_for_a_controller_that_there_is_not() -> None:
    assert set(ACCOUNTS) <= set(NAMES)
