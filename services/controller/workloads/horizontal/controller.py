"""Horizontal pod autoscaler controller: looks at each autoscaler's metrics every sync period and sizes what it points at.

Watches HorizontalPodAutoscalers; reads Pods and the metrics APIs. Writes scale subresources and the autoscalers' status. Imitates
pkg/controller/podautoscaler; a new or changed autoscaler is looked at at once instead of a period later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from kubecosm.api.errors import ApiError
from kubecosm.api.meta import Key, labels_of
from kubecosm.api.quantity import Quantity
from kubecosm.api.resources import HORIZONTALPODAUTOSCALERS, PODS, Object, Resource
from kubecosm.api.selectors import LabelSelector, parse_labels
from kubecosm.api.times import format_time
from kubecosm.client.controller import Context, ControllerSpec, Result, done, requeue
from kubecosm.client.http import TRANSPORT_ERRORS

from ...common.conditions import make, replaced
from ...common.status import update_status
from ...common.targets import TargetError, Targets
from ...config import Config
from . import behavior
from .behavior import Bounds, History, Sample
from .calculator import Tolerance, Warmup
from .counters import DESIRED, FAMILIES, KNOWN, count_look, count_proposal
from .metrics import MetricsReader
from .proposals import MetricFailed, Proposals, Subject

ABOVE_MAXIMUM = "Current number of replicas above Spec.MaxReplicas"
BELOW_MINIMUM = "Current number of replicas below Spec.MinReplicas"


class Wanted(NamedTuple):
    """The replicas that metrics ask for, and the name of the metric that asks for most."""

    replicas: int
    metric: str


class NoScaling(Exception):
    """This time nothing can be done; conditions and events say why."""

    def __init__(self, error: str = "internal") -> None:
        """`error`: whose fault it is, as metrics name it: internal, or spec."""
        super().__init__(error)
        self.error = error


@dataclass
class Look:
    """One look at one autoscaler: what is found out on the way to its new status."""

    ctx: Context
    hpa: Object
    conditions: list[Object] = field(default_factory=list)
    metrics: list[Object] = field(default_factory=list)
    action: str = "none"
    """What is done to the target: scale_up, scale_down or none."""
    error: str = "none"
    """What went wrong on the way, though something could be decided: internal or none."""
    current: int | None = None
    """The target's size, once it is known."""

    def condition(self, condition_type: str, is_true: bool, reason: str, message: str) -> None:
        new = make(condition_type, "True" if is_true else "False", reason, message, self.ctx.clock.now())
        self.conditions = replaced(self.conditions, new)

    def event(self, reason: str, message: str, kind: str = "Warning") -> None:
        self.ctx.recorder.event(self.hpa, HORIZONTALPODAUTOSCALERS, kind, reason, message)

    @property
    def spec(self) -> Object:
        spec: Object = self.hpa["spec"]
        return spec

    def status(self) -> Object:
        """What is known by now; the number of replicas there should be is that of before."""
        old = {"desiredReplicas": 0, **(self.hpa.get("status") or {}), "conditions": self.conditions}
        return old if self.current is None else {**old, "currentReplicas": self.current, "currentMetrics": self.metrics or None}


class HorizontalPodAutoscaler:
    """The controller; `SPEC` and `reconcile` are what the runner asks for."""

    def __init__(self, config: Config) -> None:
        self.SPEC = SPEC
        self._config = config
        self._histories: dict[Key, History] = {}
        self._selectors: dict[Key, LabelSelector] = {}
        self._targets: Targets | None = None
        self._known: set[Key] = set()
        self._sized: set[Key] = set()
        """Those whose desired replicas are told in metrics."""

    async def reconcile(self, ctx: Context, key: Key) -> Result:
        hpa = ctx.cache(HORIZONTALPODAUTOSCALERS).get(key)
        if hpa is None:
            self._forget(ctx, key)
            return done()
        look = Look(ctx, hpa, list((hpa.get("status") or {}).get("conditions") or ()))
        started = ctx.clock.monotonic()
        if key not in self._known:
            self._known.add(key)
            ctx.meter.set(KNOWN, len(self._known))
        try:
            status = await self._look(look, key)
            self._sized.add(key)
            ctx.meter.set(DESIRED, status["desiredReplicas"], key.namespace, key.name)
        except NoScaling as nothing:
            status, look.error = look.status(), nothing.error
        count_look(ctx, started, look.action, look.error)
        try:
            await update_status(ctx, HORIZONTALPODAUTOSCALERS, hpa, status)
        except ApiError as error:
            look.event("FailedUpdateStatus", str(error))
            raise
        return requeue(after_seconds=self._config.horizontal_pod_autoscaler_sync_period)

    def _forget(self, ctx: Context, key: Key) -> None:
        self._histories.pop(key, None)
        self._selectors.pop(key, None)
        if key in self._known:
            self._known.discard(key)
            ctx.meter.set(KNOWN, len(self._known))
        if key in self._sized:
            self._sized.discard(key)
            ctx.meter.forget(DESIRED, key.namespace, key.name)

    async def _look(self, look: Look, key: Key) -> Object:
        """Decide, scale, and say what the status is. Raises NoScaling."""
        resource, scale = await self._scale_of(look, key)
        current = look.current = (scale.get("spec") or {}).get("replicas", 0)
        history = self._histories.setdefault(key, History([Sample(look.ctx.clock.monotonic(), current)]))
        bounds = Bounds(_minimum(look.spec), look.spec["maxReplicas"], current)
        desired, reason = await self._desired(look, key, scale, bounds, history)
        if desired != current:
            await self._rescale(look, resource, scale, desired, reason)
            look.action = action_of(desired, current)
            _remember_change(history, current, desired, look.ctx.clock.monotonic())
        status = {**look.status(), "desiredReplicas": desired}
        return status if desired == current else {**status, "lastScaleTime": format_time(look.ctx.clock.now())}

    def _targets_for(self, ctx: Context) -> Targets:
        if self._targets is None:
            self._targets = Targets(ctx.client)
        return self._targets

    async def _scale_of(self, look: Look, key: Key) -> tuple[Resource, Object]:
        try:
            found = await self._targets_for(look.ctx).scale(look.spec["scaleTargetRef"], key.namespace)
        except TargetError as error:
            look.event("FailedGetScale", str(error))
            message = f"the HPA controller was unable to get the target's current scale: {error}"
            look.condition("AbleToScale", False, "FailedGetScale", message)
            raise NoScaling("spec" if str(error).startswith("unexpected GroupVersion") else "internal") from error
        look.condition("AbleToScale", True, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
        return found

    async def _desired(self, look: Look, key: Key, scale: Object, bounds: Bounds, history: History) -> tuple[int, str]:
        """(replicas there should be, why they are not as many as now). Raises NoScaling."""
        if bounds.current == 0 and bounds.minimum != 0:
            message = "scaling is disabled since the replica count of the target is zero"
            look.condition("ScalingActive", False, "ScalingDisabled", message)
            return 0, ""
        if bounds.current > bounds.maximum:
            return bounds.maximum, ABOVE_MAXIMUM
        if bounds.current < bounds.minimum:
            return bounds.minimum, BELOW_MINIMUM
        wanted = await self._by_metrics(look, key, scale, bounds.current)
        reason = f"{wanted.metric} above target" if wanted.replicas > bounds.current else ""
        if wanted.replicas < bounds.current:
            reason = "All metrics below target"
        return self._slowed(look, wanted.replicas, bounds, history), reason

    async def _by_metrics(self, look: Look, key: Key, scale: Object, current: int) -> Wanted:
        """The largest proposal; failing metrics only keep replicas from becoming fewer. Raises NoScaling."""
        subject = self._subject(look, key, scale)
        shown = (look.hpa.get("status") or {}).get("currentReplicas", 0)
        proposals = Proposals(MetricsReader(look.ctx.client), self._targets_for(look.ctx).find)
        failures: list[MetricFailed] = []
        best = Wanted(0, "")
        for spec in look.spec.get("metrics") or ():
            started = look.ctx.clock.monotonic()
            try:
                outcome = await proposals.propose(spec, subject)
                count_proposal(look.ctx, started, action_of(outcome.replicas, shown), "none", spec["type"])
            except MetricFailed as failed:
                count_proposal(look.ctx, started, "none", "internal", spec["type"])
                failures.append(failed)
                look.metrics.append({"type": ""})
                look.event(failed.reason, failed.message)
                continue
            look.metrics.append(outcome.status)
            if best.replicas == 0 or outcome.replicas > best.replicas:
                best = Wanted(outcome.replicas, outcome.name)
        if failures:
            self._tell_failures(look, failures, best, current)
        message = f"the HPA was able to successfully calculate a replica count from {best.metric}"
        look.condition("ScalingActive", True, "ValidMetricFound", message)
        return best

    def _tell_failures(self, look: Look, failures: list[MetricFailed], best: Wanted, current: int) -> None:
        """Raises NoScaling unless the metrics that are left ask for as many replicas as there are."""
        of = len(look.spec["metrics"])
        if len(failures) < of and best.replicas >= current:
            look.error = "internal"
            return
        message = f"the HPA was unable to compute the replica count: {failures[0].message}"
        look.condition("ScalingActive", False, failures[0].reason, message)
        look.event("FailedComputeMetricsReplicas", f"invalid metrics ({len(failures)} invalid out of {of}), first error is: {failures[0]}")
        raise NoScaling

    def _warmup(self) -> Warmup:
        config = self._config
        return Warmup(config.horizontal_pod_autoscaler_cpu_initialization_period, config.horizontal_pod_autoscaler_initial_readiness_delay)

    def _subject(self, look: Look, key: Key, scale: Object) -> Subject:
        """What the metrics are about. Raises NoScaling when its pods cannot be told apart from others."""
        text = (scale.get("status") or {}).get("selector") or ""
        if not text:
            missing = "the HPA target's scale is missing a selector"
            self._refuse(look, "InvalidSelector", "selector is required", missing, "SelectorRequired")
        try:
            selector = self._selectors[key] = parse_labels(text)
        except ValueError as error:
            message = f"couldn't convert selector into a corresponding internal selector object: {error}"
            self._refuse(look, "InvalidSelector", message, message, "InvalidSelector")
        pods = [pod for pod in look.ctx.cache(PODS).list(key.namespace) if selector.matches(labels_of(pod))]
        self._check_alone(look, key, text, pods)
        wanted, present = ((scale.get(part) or {}).get("replicas", 0) for part in ("spec", "status"))
        tolerance = _tolerance(look.spec, self._config.horizontal_pod_autoscaler_tolerance)
        return Subject(key.namespace, text, pods, wanted, present, tolerance, self._warmup(), look.ctx.clock.now())

    def _refuse(self, look: Look, reason: str, why: str, message: str, event: str) -> NoReturn:
        """Raises NoScaling: the pods of the target cannot be told apart from others."""
        look.event(event, why)
        look.condition("ScalingActive", False, reason, message)
        look.event("FailedComputeMetricsReplicas", why)
        raise NoScaling

    def _check_alone(self, look: Look, key: Key, text: str, pods: list[Object]) -> None:
        """Raises NoScaling if another autoscaler sizes some of these pods too."""
        others = [
            other
            for other, selector in self._selectors.items()
            if other == key or (other.namespace == key.namespace and any(selector.matches(labels_of(pod)) for pod in pods))
        ]
        if len(others) < 2:
            return
        listed = " ".join(f"{{{other.name} {other.namespace}}}" for other in sorted(others))
        message = f"pods by selector {text} are controlled by multiple HPAs: [{listed}]"
        self._refuse(look, "AmbiguousSelector", message, message, "AmbiguousSelector")

    def _slowed(self, look: Look, wanted: int, bounds: Bounds, history: History) -> int:
        """The replicas after windows and limits; both are told in conditions."""
        now, rules = look.ctx.clock.monotonic(), look.spec.get("behavior")
        window = self._config.horizontal_pod_autoscaler_downscale_stabilization
        history.forget(now - behavior.longest_window(look.spec, window))
        if rules is None:
            stable = behavior.plan_stable(wanted, history.recommendations, window, now)
            limited = behavior.plan_limited(stable.replicas, bounds)
        else:
            up, down = rules.get("scaleUp") or {}, {"stabilizationWindowSeconds": window, **_given(rules.get("scaleDown") or {})}
            stable = behavior.plan_stable_with_behavior(wanted, bounds.current, history, up, down, now)
            limited = behavior.plan_limited_with_behavior(stable.replicas, bounds, history, up, down, now)
        history.recommendations.append(Sample(now, wanted))
        look.condition("AbleToScale", True, stable.reason, stable.message)
        look.condition("ScalingLimited", limited.replicas != stable.replicas, limited.reason, limited.message)
        return limited.replicas

    async def _rescale(self, look: Look, resource: Resource, scale: Object, desired: int, reason: str) -> None:
        """Raises NoScaling when the target does not take its new size."""
        try:
            await look.ctx.client.update(resource, {**scale, "spec": {"replicas": desired}}, subresource="scale")
        except (ApiError, *TRANSPORT_ERRORS) as error:
            look.event("FailedRescale", f"New size: {desired}; reason: {reason}; error: {error}")
            message = f"the HPA controller was unable to update the target scale: {error}"
            look.condition("AbleToScale", False, "FailedUpdateScale", message)
            raise NoScaling from error
        message = f"the HPA controller was able to update the target scale to {desired}"
        look.condition("AbleToScale", True, "SucceededRescale", message)
        look.event("SuccessfulRescale", f"New size: {desired}; reason: {reason}", "Normal")


def action_of(replicas: int, current: int) -> str:
    return "scale_up" if replicas > current else "scale_down" if replicas < current else "none"


def _minimum(spec: Object) -> int:
    minimum: int | None = spec.get("minReplicas")
    return 1 if minimum is None else minimum


def _given(rules: Object) -> Object:
    return {name: value for name, value in rules.items() if value is not None}


def _tolerance(spec: Object, default: float) -> Tolerance:
    """The tolerances of `behavior` where it names them."""
    rules = spec.get("behavior") or {}

    def of(direction: str) -> float:
        given = (rules.get(direction) or {}).get("tolerance")
        return default if given is None else Quantity.of(given).nanos / 1e9

    return Tolerance(of("scaleDown"), of("scaleUp"))


def _remember_change(history: History, before: int, after: int, now: float) -> None:
    if after > before:
        history.ups.append(Sample(now, after - before))
    else:
        history.downs.append(Sample(now, before - after))


def spec_changed(old: Object, new: Object) -> bool:
    return bool(old["spec"] != new["spec"])


SPEC = ControllerSpec(
    name="horizontalpodautoscaler",
    component="horizontal-pod-autoscaler",
    primary=HORIZONTALPODAUTOSCALERS,
    reads=(PODS,),
    cares={HORIZONTALPODAUTOSCALERS: spec_changed},
    metrics=FAMILIES,
    workers=5,
)


def build(config: Config) -> HorizontalPodAutoscaler:
    return HorizontalPodAutoscaler(config)
