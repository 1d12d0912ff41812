"""CronJobs. Imitates SetDefaults_CronJob, ValidateCronJobCreate/Update and pkg/registry/batch/cronjob."""

from __future__ import annotations

import re
import zoneinfo

from kubecosm.api.field import FieldError, invalid_value, not_supported, required
from kubecosm.api.resources import Object

from ..core.pod_defaults import default_pod_template
from ..core.pod_warnings import pod_warnings
from ..formats import Errors, check_non_negative
from ..strategy import Strategy
from ..templated import POD_NAMES, name_warnings
from ..values import selector_value
from .job_spec import check_job_spec, size_warnings
from .schedule import schedule_complaint

NAME_MAX = 52
"""A Job's name is the CronJob's plus eleven characters of time, and pods need room for a suffix."""
CONCURRENCY_POLICIES = ("Allow", "Forbid", "Replace")
_ZONE_PART = re.compile(r"[A-Za-z._0-9+][A-Za-z.\-_0-9+]{0,13}")
_TZ_IN_SCHEDULE = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
_TZ_TWICE = "cannot use both timeZone field and TZ or CRON_TZ in schedule"


class CronJobStrategy(Strategy):
    """A CronJob."""

    def default(self, obj: Object) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("concurrencyPolicy"):
            spec["concurrencyPolicy"] = "Allow"
        spec.setdefault("suspend", False)
        spec.setdefault("successfulJobsHistoryLimit", 3)
        spec.setdefault("failedJobsHistoryLimit", 1)
        template = spec.setdefault("jobTemplate", {})
        template.setdefault("metadata", {})
        default_pod_template(template.setdefault("spec", {}).setdefault("template", {}))
        obj.setdefault("status", {})

    def prepare_for_create(self, obj: Object) -> None:
        obj["status"] = {}
        obj["metadata"]["generation"] = 1

    def validate(self, obj: Object) -> list[FieldError]:
        errors: Errors = []
        _check_spec(obj["spec"], None, errors)
        if len(obj["metadata"].get("name", "")) > NAME_MAX:
            errors.append(invalid_value("metadata.name", obj["metadata"]["name"], f"must be no more than {NAME_MAX} characters"))
        return errors

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        errors: Errors = []
        _check_spec(obj["spec"], old["spec"], errors)
        return errors

    def warnings(self, obj: Object, old: Object | None = None) -> list[str]:
        if old is not None and obj["spec"] == old["spec"]:
            return []
        template = (obj["spec"]["jobTemplate"].get("spec") or {}).get("template") or {}
        path = "spec.jobTemplate.spec.template"
        told = name_warnings(obj, POD_NAMES) if old is None else []
        told += size_warnings(obj["spec"]["jobTemplate"].get("spec") or {}, "spec.jobTemplate.spec")
        return told + pod_warnings(template.get("spec") or {}, template.get("metadata") or {}, f"{path}.spec", f"{path}.metadata")


def _check_spec(spec: Object, old: Object | None, errors: Errors) -> None:
    schedule, zone = spec.get("schedule", ""), spec.get("timeZone")
    if not schedule:
        errors.append(required("spec.schedule"))
    else:
        _check_schedule(schedule, zone, old, errors)
    if "startingDeadlineSeconds" in spec:
        check_non_negative(spec["startingDeadlineSeconds"], "spec.startingDeadlineSeconds", errors)
    if zone is not None and (old is None or old.get("timeZone") != zone):
        _check_zone(zone, errors)
    policy = spec.get("concurrencyPolicy", "")
    if policy not in CONCURRENCY_POLICIES:
        path = "spec.concurrencyPolicy"
        errors.append(not_supported(path, policy, CONCURRENCY_POLICIES) if policy else required(path))
    _check_job_template(spec["jobTemplate"].get("spec") or {}, "spec.jobTemplate.spec", errors)
    for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        if field in spec:
            check_non_negative(spec[field], f"spec.{field}", errors)


def _check_schedule(schedule: str, zone: str | None, old: Object | None, errors: Errors) -> None:
    complaint = schedule_complaint(schedule)
    if complaint:
        errors.append(invalid_value("spec.schedule", schedule, complaint))
    had_zone = old is not None and "TZ" in old.get("schedule", "")
    if "TZ" in schedule and (zone is not None or not had_zone):
        errors.append(invalid_value("spec.schedule", schedule, _TZ_TWICE if had_zone else _TZ_IN_SCHEDULE))


def _check_zone(zone: str, errors: Errors) -> None:
    path = "spec.timeZone"
    if not zone:
        errors.append(invalid_value(path, zone, "timeZone must be nil or non-empty string"))
    elif not all(_ZONE_PART.fullmatch(part) and part not in (".", "..") for part in zone.split("/")):
        errors.append(invalid_value(path, zone, f"unknown time zone {zone}"))
    elif zone.lower() == "local":
        errors.append(invalid_value(path, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
    else:
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            errors.append(invalid_value(path, zone, f"unknown time zone {zone}"))


def _check_job_template(spec: Object, path: str, errors: Errors) -> None:
    check_job_spec(spec, path, errors)
    if spec.get("selector") is not None:
        errors.append(invalid_value(f"{path}.selector", selector_value(spec["selector"]), "`selector` will be auto-generated"))
    if spec.get("manualSelector"):
        errors.append(not_supported(f"{path}.manualSelector", True, ("nil", "false")))
