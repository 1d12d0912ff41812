"""Static bearer tokens from a CSV file: token,user,uid[,"group1,group2"] (kube-apiserver's --token-auth-file)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from kubecosm.runtime.errors import StartupError, startup

from .contract import Verified, meant_for
from .user import GROUP_AUTHENTICATED, User


class StaticTokens:
    """The tokens of a file; meant for this server alone."""

    def __init__(self, users: Mapping[str, User], api_audiences: tuple[str, ...]) -> None:
        self.users = users
        self._api_audiences = api_audiences

    def verify(self, token: str, audiences: tuple[str, ...]) -> Verified | None:
        user = self.users.get(token)
        accepted = meant_for(audiences, self._api_audiences)
        return Verified(user, accepted) if user is not None and accepted else None


def load_tokens(path: Path) -> dict[str, User]:
    """token → user. Raises StartupError for an unreadable or malformed file."""
    with startup(f"read the token file {path}"), open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, skipinitialspace=True))
    tokens: dict[str, User] = {}
    for number, row in enumerate(rows, 1):
        if not row or row[0].startswith("#"):
            continue
        if len(row) < 3:
            raise StartupError(f'cannot use the token file {path}: line {number} must be token,user,uid[,"group1,group2"]')
        token, name, uid = row[0].strip(), row[1].strip(), row[2].strip()
        if not token:
            raise StartupError(f"cannot use the token file {path}: line {number} has an empty token")
        groups = tuple(g.strip() for g in row[3].split(",") if g.strip()) if len(row) > 3 else ()
        tokens[token] = User(name, (*groups, GROUP_AUTHENTICATED), uid)
    return tokens
