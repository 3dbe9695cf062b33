"""Deferred dependencies: they are called when FastAPI has validated the whole request, and not before.

FastAPI calls the dependencies of a route before it validates the route's own parameters and its body. So a dependency
that looks something up would do it for requests that are refused anyway. `deferred` lets FastAPI only collect the
arguments of such a dependency, and `DeferringRoute` makes the call before that of the endpoint.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import Depends
from fastapi.routing import APIRoute

Function = Callable[..., Awaitable[Any]]


class _Call:
    """A call to be made later. It is made once, even if several functions need the result."""

    def __init__(self, function: Function, arguments: Mapping[str, Any]) -> None:
        self._function = function
        self._arguments = arguments
        self._is_done = False
        self._result: Any = None

    async def result(self) -> Any:
        if not self._is_done:
            self._result = await self._function(**self._arguments)
            self._is_done = True
        return self._result


def deferred(function: Function) -> Any:
    """A dependency like `Depends(function)`, for a function that looks something up.

    Only endpoints of a `DeferringRoute` and other deferred functions can depend on it.
    """
    function = _after_deferred(function)

    @functools.wraps(function)
    async def defer(**arguments: Any) -> _Call:
        return _Call(function, arguments)

    return Depends(defer)


def _after_deferred(function: Function) -> Function:
    """The same function; before it is called, the deferred calls among its arguments are replaced by their results."""

    @functools.wraps(function)
    async def call(**arguments: Any) -> Any:
        for name, value in arguments.items():
            if isinstance(value, _Call):
                arguments[name] = await value.result()
        return await function(**arguments)

    return call


class DeferringRoute(APIRoute):
    """A route whose endpoint can have deferred dependencies. They are called in the order of its parameters."""

    def __init__(self, path: str, endpoint: Function, **options: Any) -> None:
        super().__init__(path, _after_deferred(endpoint), **options)
