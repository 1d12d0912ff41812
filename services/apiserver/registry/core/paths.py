"""Validation of file paths and modes inside volumes."""

from __future__ import annotations

from kubecosm.api.field import invalid_value

from ..formats import Errors

FILE_MODE_COMPLAINT = "must be a number between 0 and 0777 (octal), both inclusive"


def check_file_mode(mode: int | None, path: str, errors: Errors) -> None:
    if mode is not None and not 0 <= mode <= 0o777:
        errors.append(invalid_value(path, mode, FILE_MODE_COMPLAINT))


def has_backsteps(target: str) -> bool:
    return ".." in target and ".." in target.split("/")


def check_no_backsteps(target: str, path: str, errors: Errors) -> None:
    if has_backsteps(target):
        errors.append(invalid_value(path, target, "must not contain '..'"))


def check_local_path(target: str, path: str, errors: Errors) -> None:
    """Relative, and staying below where it starts (validateLocalDescendingPath)."""
    if target.startswith("/"):
        errors.append(invalid_value(path, target, "must be a relative path"))
    check_no_backsteps(target, path, errors)


def check_local_reserved_path(target: str, path: str, errors: Errors) -> None:
    """As check_local_path, and not beginning with two dots, which volumes use themselves."""
    check_local_path(target, path, errors)
    if target.startswith("..") and not target.startswith("../"):
        errors.append(invalid_value(path, target, "must not start with '..'"))
