"""Handles of deployments whose replicas are plain objects of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Method:
    def __init__(self, call: Callable) -> None:
        self._call = call

    def remote(self, *arguments: object) -> Awaitable:
        async def main():
            return await self._call(*[await each if isinstance(each, Awaitable) else each for each in arguments])

        return asyncio.ensure_future(main())


class Handle(Method):
    """A deployment whose replicas, plain objects of this process, take turns."""

    def __init__(self, *replicas) -> None:
        turns = [0]

        def turn():
            turns[0] += 1
            return replicas[turns[0] % len(replicas)]

        super().__init__(lambda *arguments: turn()(*arguments))
        self.prepare = Method(lambda *arguments: turn().prepare(*arguments))
        self.check = Method(lambda: turn().check())

    def options(self, **_: object) -> Handle:
        return self
