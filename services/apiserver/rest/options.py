"""Query and body options of the verbs, checked as Kubernetes checks them (apis/meta/v1 and its validation package)."""

from __future__ import annotations

from dataclasses import dataclass

from kubecosm.api import selectors
from kubecosm.api.errors import BadRequest, NotAcceptable
from kubecosm.api.field import FieldError, forbidden_field, invalid_kind, invalid_value, not_supported, required
from kubecosm.api.resources import Object
from kubecosm.api.selectors import ALL_FIELDS, EVERYTHING, FieldSelector, LabelSelector

from ..http.request import Request
from .accept import accepted

FIELD_VALIDATIONS = ("Ignore", "Warn", "Strict")
FIELD_MANAGER_LENGTH_MAX = 128
PROPAGATION_POLICIES = ("Foreground", "Background", "Orphan", "nil")
LIMIT_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """CreateOptions, UpdateOptions and PatchOptions."""

    dry_run: bool = False
    field_manager: str = ""
    field_validation: str = "Warn"
    force: bool | None = None


NO_WRITE_OPTIONS = WriteOptions()


def write_options(request: Request, kind: str) -> WriteOptions:
    """`kind` is CreateOptions, UpdateOptions or PatchOptions. Raises NotAcceptable (before anything is written), Invalid."""
    check_acceptable(request)
    if not request.raw_query:
        return NO_WRITE_OPTIONS
    errors: list[FieldError] = []
    dry_run = request.query.get("dryRun", [])
    if any(value != "All" for value in dry_run):
        errors.append(not_supported("dryRun", dry_run, ("All",)))
    manager = request.param("fieldManager")
    errors += check_field_manager(manager)
    validation = request.param("fieldValidation")
    if validation and validation not in FIELD_VALIDATIONS:
        errors.append(not_supported("fieldValidation", validation, ("", *FIELD_VALIDATIONS)))
    if errors:
        raise invalid_kind("meta.k8s.io", kind, "", errors)
    force = request.flag("force") if "force" in request.query else None
    return WriteOptions(bool(dry_run), manager, validation or "Warn", force)


def check_acceptable(request: Request) -> None:
    """A write whose answer the client could not read is not made. Raises NotAcceptable."""
    form = accepted(request.headers.get("Accept", "")).transform
    if form.startswith("Partial") and (form == "PartialObjectMetadataList") != (request.verb == "deletecollection"):
        raise NotAcceptable(f"you requested {form}, but the answer is {'not ' if form.endswith('List') else ''}a list")


def check_apply_options(options: WriteOptions, *, apply: bool) -> None:
    """The rules that differ between apply and the other patches (ValidatePatchOptions)."""
    errors: list[FieldError] = []
    if not apply and options.force is not None:
        errors.append(forbidden_field("force", "may not be specified for non-apply patch"))
    if apply and not options.field_manager:
        errors.append(required("fieldManager", "is required for apply patch"))
    if errors:
        raise invalid_kind("meta.k8s.io", "PatchOptions", "", errors)


def check_field_manager(manager: str) -> list[FieldError]:
    if len(manager.encode()) > FIELD_MANAGER_LENGTH_MAX:
        return [FieldError("FieldValueTooLong", "fieldManager", f"may not be more than {FIELD_MANAGER_LENGTH_MAX} bytes")]
    if not manager.isprintable():
        index, char = next((i, c) for i, c in enumerate(manager) if not c.isprintable())
        return [invalid_value("fieldManager", manager, f"invalid character {char!a} (at position {index})")]
    return []


@dataclass(frozen=True, slots=True)
class ListOptions:
    """ListOptions as list and watch take them."""

    labels: LabelSelector = EVERYTHING
    fields: FieldSelector = ALL_FIELDS
    limit: int = 0
    continue_token: str = ""
    resource_version: str = ""
    match: str = ""
    allow_bookmarks: bool = False
    send_initial_events: bool | None = None
    timeout_seconds: int | None = None


_NO_OPTIONS = ListOptions()


def list_options(request: Request, *, watch: bool) -> ListOptions:
    """Raises BadRequest for what cannot be parsed, Invalid for what does not fit together."""
    if not request.raw_query:
        return _NO_OPTIONS
    try:
        labels = selectors.parse_labels(request.param("labelSelector"))
        fields = selectors.parse_fields(request.param("fieldSelector"))
    except selectors.SelectorError as error:
        raise BadRequest(str(error)) from error
    options = ListOptions(
        labels=labels, fields=fields, limit=max(0, _integer(request, "limit") or 0), continue_token=request.param("continue"),
        resource_version=request.param("resourceVersion"), match=request.param("resourceVersionMatch"),
        allow_bookmarks=request.flag("allowWatchBookmarks"),
        send_initial_events=request.flag("sendInitialEvents") if "sendInitialEvents" in request.query else None,
        timeout_seconds=_integer(request, "timeoutSeconds"),
    )  # fmt: skip
    if options.resource_version:
        revision_of(options.resource_version)
    errors = _check_watch(options) if watch else _check_list(options)
    if errors:
        raise invalid_kind("meta.k8s.io", "ListOptions", "", errors)
    return options


def revision_of(text: str) -> int:
    """A resourceVersion as a number; empty is 0. Raises BadRequest."""
    if text.isascii() and text.isdigit():
        return int(text)
    if not text:
        return 0
    raise BadRequest(f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')


def _integer(request: Request, name: str) -> int | None:
    text = request.param(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _check_list(options: ListOptions) -> list[FieldError]:
    """ValidateListOptions for a list."""
    if options.send_initial_events is not None:
        return [forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list")]
    match, version = options.match, options.resource_version
    if not match:
        return []
    errors: list[FieldError] = []
    if not version:
        errors.append(forbidden_field("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"))
    if options.continue_token:
        errors.append(forbidden_field("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided"))
    if match not in ("Exact", "NotOlderThan"):
        errors.append(not_supported("resourceVersionMatch", match, ("Exact", "NotOlderThan", "")))
    if match == "Exact" and version == "0":
        detail = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        errors.append(forbidden_field("resourceVersionMatch", detail))
    return errors


def _check_watch(options: ListOptions) -> list[FieldError]:
    """ValidateListOptions for a watch."""
    match = options.match
    errors: list[FieldError] = []
    if options.send_initial_events is not None:
        if not match:
            detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            errors.append(forbidden_field("resourceVersionMatch", detail))
        elif match != "NotOlderThan":
            errors.append(not_supported("resourceVersionMatch", match, ("NotOlderThan",)))
    elif match:
        detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        errors.append(forbidden_field("resourceVersionMatch", detail))
    return errors


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """DeleteOptions from the body or, without one, the query."""

    grace_period_seconds: int | None = None
    uid: str | None = None
    resource_version: str | None = None
    propagation_policy: str | None = None
    orphan_dependents: bool | None = None
    dry_run: bool = False


def delete_options(request: Request, body: Object | None) -> DeleteOptions:
    """Raises Invalid, BadRequest."""
    raw = body if body is not None else _delete_options_of_query(request)
    dry_run = raw.get("dryRun") or []
    policy, orphan = raw.get("propagationPolicy"), raw.get("orphanDependents")
    errors: list[FieldError] = []
    if policy is not None and orphan is not None:
        errors.append(invalid_value("propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set"))
    if policy is not None and policy not in PROPAGATION_POLICIES[:3]:
        errors.append(not_supported("propagationPolicy", policy, PROPAGATION_POLICIES))
    if any(value != "All" for value in dry_run):
        errors.append(not_supported("dryRun", dry_run, ("All",)))
    if errors:
        raise invalid_kind("meta.k8s.io", "DeleteOptions", "", errors)
    preconditions = raw.get("preconditions") or {}
    grace = raw.get("gracePeriodSeconds")
    return DeleteOptions(
        max(grace, 0) if grace is not None and grace >= 0 else (1 if grace is not None else None),
        preconditions.get("uid"), preconditions.get("resourceVersion"), policy, orphan, bool(dry_run),
    )  # fmt: skip


def _delete_options_of_query(request: Request) -> Object:
    if not request.raw_query:
        return {}
    raw: Object = {"dryRun": request.query.get("dryRun", [])}
    if (grace := _integer(request, "gracePeriodSeconds")) is not None:
        raw["gracePeriodSeconds"] = grace
    if request.param("propagationPolicy"):
        raw["propagationPolicy"] = request.param("propagationPolicy")
    if "orphanDependents" in request.query:
        raw["orphanDependents"] = request.flag("orphanDependents")
    return raw
