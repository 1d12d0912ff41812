"""The files that a web server of an image shows: those below its document root, as the container has them now.

Programs and volumes change them as in a real container. A container in which no program ran and nothing is mounted has no file system yet:
it shows the image's own page. Leaves out: directory listings, ranges, caching headers.
"""

from __future__ import annotations

from collections.abc import Callable

from ..volumes.filesystem import FileSystem

INDEX = "index.html"
WELCOME = b"<!DOCTYPE html>\n<html><head><title>Welcome to nginx!</title></head>\n<body><h1>Welcome to nginx!</h1></body></html>\n"
"""The page that the image brings; it is shown with the pod's name."""
TYPES = {
    "html": "text/html; charset=utf-8", "htm": "text/html; charset=utf-8", "css": "text/css", "js": "application/javascript",
    "json": "application/json", "txt": "text/plain; charset=utf-8", "xml": "text/xml", "svg": "image/svg+xml", "png": "image/png",
    "jpg": "image/jpeg", "gif": "image/gif", "ico": "image/x-icon",
}  # fmt: skip


class Documents:
    """`root` is the document root; `files` gives the container's file system, None while it has none of its own."""

    def __init__(self, root: str, files: Callable[[], FileSystem | None]) -> None:
        self._root = root
        self._files = files

    def read(self, path: str) -> bytes | None:
        """The document at a URL's path, a directory's index included; None if there is none, PermissionError for a directory without."""
        fs = self._files()
        if fs is None:
            return WELCOME if path in ("/", f"/{INDEX}") else None
        place = fs.resolve(f"{self._root}/{fs.resolve(path).lstrip('/')}")
        if fs.is_dir(place):
            place = f"{place}/{INDEX}"
            if not fs.exists(place):
                raise PermissionError(place)
        try:
            return fs.read(place)
        except OSError:
            return None


IMAGE_ONLY = Documents("", lambda: None)
"""What stands in the image alone."""


def content_type(path: str) -> str:
    """By the last part of the name; a directory shows its index."""
    name = path.rsplit("/", 1)[-1] or INDEX
    return TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")


def is_within(root: str, path: str) -> bool:
    """Whether a mount at the path shows in the documents: it stands at the root, above or below it."""
    root, path = f"{root}/", f"{path.rstrip('/')}/"
    return root.startswith(path) or path.startswith(root)


def install(root: str, fs: FileSystem) -> None:
    """What the image has at its document root; nothing where a volume stands."""
    if not fs.exists(root):
        fs.mkdir(root, parents=True)
        fs.write(f"{root}/{INDEX}", WELCOME)
