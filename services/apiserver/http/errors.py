"""The errors filter: the border of one request. Whatever fails inside becomes a Status; bugs are logged with the request's id."""

from __future__ import annotations

import orjson

from kubecosm.api.errors import ApiError, BadRequest, InternalError
from kubecosm.runtime.logs import get_logger

from ..storage.contract import StorageError
from .handler import Filter, Handler
from .request import Request
from .response import Answer, error_response

log = get_logger("apiserver")

TOO_DEEP = "exceeded max depth"
"""The body is nested more deeply than our encoder goes (some 250 levels; Go's decoder gives up at 10,000)."""


def with_errors() -> Filter:
    def wrap(inner: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            try:
                return await inner(request)
            except ApiError as error:
                return error_response(error, pretty=request.for_people)
            except ConnectionError:
                raise  # the client is gone: nobody is left to answer
            except StorageError as error:
                log.error("storage failed", audit_id=request.audit_id, error=str(error))
                return error_response(InternalError(f"Internal error occurred: {error}"))
            except RecursionError:
                return error_response(BadRequest(TOO_DEEP))
            except Exception as error:  # the border of one request
                if isinstance(error, orjson.JSONEncodeError) and "Recursion" in str(error):
                    return error_response(BadRequest(TOO_DEEP))
                log.error("request failed", audit_id=request.audit_id, method=request.method, path=request.path, exc_info=error)
                return error_response(InternalError(f"Internal error occurred: {type(error).__name__}: {error}"))

        return handle

    return wrap
