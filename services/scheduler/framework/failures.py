"""What goes wrong in plugins, other people's and ours: such an attempt fails with an error and is repeated, the scheduler goes on."""

from __future__ import annotations

import traceback

from kubecosm.api.errors import ApiError
from kubecosm.client.http import TRANSPORT_ERRORS
from kubecosm.runtime.logs import get_logger

API_FAILURES = (ApiError, *TRANSPORT_ERRORS)
"""A request that was refused or did not get through."""
BUGS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError)
"""What Python raises for a mistake in a plugin. Whatever else a plugin raises ends the process, as it may not be about the pod at all."""

log = get_logger("kube-scheduler")


class PluginError(Exception):
    """A plugin failed in a scheduling cycle: the attempt ends as an error with this message."""


def describe(failed: BaseException) -> str:
    """One line for events; never empty. A bug is logged with where it happened."""
    if isinstance(failed, API_FAILURES):
        return str(failed) or type(failed).__name__
    log.error("a plugin failed", error=repr(failed), traceback="".join(traceback.format_exception(failed)))
    return repr(failed)
