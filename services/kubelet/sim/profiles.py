"""What an image does when it runs: profiles as data, the first match by the image's repository wins.

A profile is an object with `match` (a glob) and, as needed, `kind` (server, shell, exit), `application`, `run_seconds`, `exit_code`, `log`
(lines) and `entrypoint` (argv).
The glob is compared with the repository's last path elements (`nginx`, `microservices-demo/frontend`). Unknown images are servers.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson

from kubecosm.runtime.errors import StartupError

from ..cri.images import full_name

OFFICIAL_IMAGES = "docker.io/library/"
KINDS = ("server", "shell", "exit")


@dataclass(frozen=True, slots=True)
class ImageProfile:
    match: str
    kind: str = "server"
    application: str = "http"
    """For servers: how ports answer; empty for images that listen on nothing."""
    ports: tuple[int, ...] = ()
    """For servers: where the image listens (TCP) if the container declares no port."""
    document_root: str = ""
    """For the application `nginx`: where the image keeps the files that it shows."""
    run_seconds: float = 0.0
    """For `exit`: how long the main process runs."""
    exit_code: int = 0
    log: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    arguments_are_command: bool = True
    """Whether `args` alone may name a toolbox program to run (images without an entrypoint of their own)."""
    user: str | None = None
    """Who the image runs as: a number or a name, empty for root. Not known of most images: they run as whoever is asked for."""


UNKNOWN_IMAGE = ImageProfile("*")


@dataclass(frozen=True, slots=True)
class ProgramProfile:
    """A program that the toolbox lacks: it serves for ever, or ends after `run_seconds`."""

    serves: bool = False
    run_seconds: float = 0.0
    exit_code: int = 0


def repository(image: str) -> str:
    """`registry/path/name` of an image reference, without tag and digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def _profile(raw: dict[str, Any]) -> ImageProfile:
    if unknown := set(raw) - {field.name for field in fields(ImageProfile)}:
        raise ValueError(f"unknown field {sorted(unknown)[0]!r}")
    if not isinstance(raw.get("match"), str):
        raise ValueError("a profile needs a `match`")
    profile = replace(UNKNOWN_IMAGE, **{**raw, **{name: tuple(raw.get(name, ())) for name in ("log", "entrypoint", "ports")}})
    if profile.kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}")
    return profile


class ImageProfiles:
    """The built-in profiles, with a user's in front of them."""

    def __init__(self, extra: Iterable[ImageProfile] = (), preloaded: Iterable[str] = ()) -> None:
        """`preloaded`: globs of images that every node has without pulling them."""
        self._preloaded = tuple(preloaded)
        raw = orjson.loads(files(__package__).joinpath("data/images.json").read_bytes())
        extra = tuple(extra)
        self._extra = frozenset(profile.match for profile in extra)
        self._profiles = [*extra, *map(_profile, raw)]
        self._cache: dict[str, ImageProfile] = {}

    @classmethod
    def load(cls, path: str, preloaded: Iterable[str] = ()) -> ImageProfiles:
        """With the profiles of a YAML or JSON file in front; StartupError if the file is unusable."""
        if not path:
            return cls(preloaded=preloaded)
        import yaml

        try:
            raw = yaml.safe_load(Path(path).read_text())
            return cls([_profile(entry) for entry in raw or ()], preloaded)
        except (OSError, yaml.YAMLError, TypeError, ValueError) as failure:
            raise StartupError(f"--image-profiles {path}: {failure}") from failure

    def is_preloaded(self, image: str) -> bool:
        """Whether nodes have this image (by its full name): a glob is compared with the name and its tails, with and without tag."""
        return any(fnmatch.fnmatchcase(name, glob) for glob in self._preloaded for name in _tails(image))

    def user_of(self, image: str) -> str | None:
        """As `image_user` of a Runtime. What the built-in profiles tell of root holds for Docker's official images: others choose users."""
        profile = self.of(image)
        is_known = profile.user or profile.match in self._extra or full_name(image).startswith(OFFICIAL_IMAGES)
        return profile.user if is_known else None

    def of(self, image: str) -> ImageProfile:
        found = self._cache.get(image)
        if found is None:
            found = self._cache[image] = self._find(repository(image))
        return found

    def _find(self, name: str) -> ImageProfile:
        return next((p for p in self._profiles if any(fnmatch.fnmatchcase(tail, p.match) for tail in _tails(name))), UNKNOWN_IMAGE)


def _tails(name: str) -> list[str]:
    """`a/b/c`, `b/c`, `c`."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


@lru_cache(maxsize=1)
def programs() -> dict[str, ProgramProfile]:
    raw = orjson.loads(files(__package__).joinpath("data/programs.json").read_bytes())["programs"]
    return {name: ProgramProfile(**profile) for name, profile in raw.items()}
