"""Takes up a changed encryption configuration while the server runs (--encryption-provider-config-automatic-reload)."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.logs import get_logger

from .config import load_entries
from .kms import STATUS_SECONDS
from .kmsplugin import KmsError
from .store import EncryptingStore

log = get_logger("apiserver")

LOOK_SECONDS = 10.0


async def reload_forever(path: Path, store: EncryptingStore, clock: Clock) -> None:
    """Look at the file now and then; one that cannot be used is told and left alone."""
    seen = await asyncio.to_thread(_content, path)
    while True:
        await clock.sleep(LOOK_SECONDS)
        content = await asyncio.to_thread(_content, path)
        if content in (seen, b""):
            continue
        seen = content
        try:
            store.configure(await asyncio.to_thread(load_entries, path, clock))
        except StartupError as error:
            log.error("the encryption configuration has not been taken up", error=str(error))
            store.reloads.count("failure", clock.now())
            continue
        store.reloads.count("success", clock.now())
        log.info("the encryption configuration has been taken up", file=str(path))


async def ask_plugins_forever(store: EncryptingStore, clock: Clock) -> None:
    """Ask KMS plugins now and then how they are, and which key they use."""
    while True:
        await clock.sleep(STATUS_SECONDS)
        for plugin in store.plugins:
            try:
                await asyncio.to_thread(plugin.refresh)
            except KmsError as error:
                log.error("a KMS plugin is not well", provider=plugin.name, error=str(error))


def _content(path: Path) -> bytes:
    """Empty if it is not there, as for a moment while it is replaced."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
