"""What the mutating and the validating webhook plugin share: which webhooks there are, which of them are to be asked, and how."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kubecosm.api import errors
from kubecosm.api.errors import ApiError
from kubecosm.api.field import go_quote
from kubecosm.runtime.errors import StartupError

from ...webhook.failures import CallFailed
from ..chain import Attributes
from ..conditions import Conditions
from ..configured import ConfiguredPlugin
from ..expressions import EvaluationError, View
from ..views import Views
from ..waiting import finish
from .calling import Caller, Rejected
from .hooks import Found, Hook, HookIndex

if TYPE_CHECKING:
    from ...webhook.credentials import CredentialBook
    from ..plugins import Parts


def _credentials(parts: Parts, plugin: str) -> CredentialBook | None:
    """Those of the plugin's WebhookAdmissionConfiguration, if it has one. Raises StartupError."""
    configuration = parts.configuration.get(plugin)
    if configuration is None:
        return None
    path = configuration.get("kubeConfigFile") or ""
    if not Path(path).is_absolute():
        raise StartupError(f"{plugin}: kubeConfigFile: Invalid value: {go_quote(path)}: must be an absolute file path")
    from ...webhook.credentials import CredentialBook

    return CredentialBook.load(path, f"{plugin}: kubeConfigFile")


class WebhookPlugin(ConfiguredPlugin[HookIndex]):
    """`configurations` is the plural of their kind, `step` what metrics call the step: admit or validating."""

    configurations = ""
    step = ""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts.hooks(self.configurations))
        self._surroundings = parts.surroundings
        self._clock = parts.state.clock
        self._caller = Caller(parts.state.webhooks, parts.surroundings, parts.metrics, self.step, _credentials(parts, self.name))
        self._conditions = Conditions(parts.metrics, parts.state.clock, "webhook", self.step)

    async def _view(self, found: Found, attributes: Attributes, views: Views) -> View | None:
        """The write as the webhook wants to see it; None if it is not to be asked. Raises ApiError."""
        _, hook, row = found
        if not self._surroundings.selects(hook.criteria, attributes):
            return None
        view = await finish(views.of(row))
        try:
            wanted = await finish(self._conditions.hold(hook.name, hook.conditions, view, ignores_failure=hook.ignores_failure))
        except EvaluationError as error:
            raise errors.forbidden(attributes.resource, attributes.name, str(error)) from None
        return view if wanted else None

    def _verdict(self, hook: Hook, attributes: Attributes, failure: Exception | None, place: str) -> ApiError | None:
        """What becomes of the write after a call that ended so: None lets it pass."""
        if isinstance(failure, CallFailed):
            return self._caller.outcome(hook, attributes, failure, place)
        if isinstance(failure, Rejected):
            return failure.error
        assert failure is None or isinstance(failure, ApiError)
        return failure
