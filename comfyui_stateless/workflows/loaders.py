"""Which kind of file is loaded by what. What a kind needs is imported when there is such a file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .base import Endpoint, Surroundings
from .folder import GRAPH, Source

if TYPE_CHECKING:
    from .graph_file import GraphFile
    from .javascript import JavaScript

AT_ONCE = 4
"""Python files that are loaded at once."""


class Loaders:
    """Makes endpoints of files.

    Args:
        cache_dir: Where the packages of JavaScript files are kept.
        node_packages: Where they are already, None if they are not.
        variables: What JavaScript files find in their environment, whatever ours says.
    """

    def __init__(
        self,
        cache_dir: Path,
        node_packages: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._cache_dir = cache_dir
        self._node_packages = node_packages
        self._variables = variables
        self._javascript: JavaScript | None = None
        self._python = asyncio.Semaphore(AT_ONCE)

    async def read(self, source: Source) -> GraphFile:
        """Read a graph and what describes it.

        Raises:
            WorkflowFileError: They cannot be read.
        """
        from .graph_file import read_graph_file

        return await asyncio.to_thread(read_graph_file, source.file, source.description)

    async def load(
        self, source: Source, graph: GraphFile | None, surroundings: Surroundings
    ) -> Endpoint:
        """Make an endpoint.

        Args:
            graph: The file as it was read, None if it holds code.

        Raises:
            WorkflowFileError: The file is wrong.
        """
        if graph is not None:
            from .graph import GraphEndpoint

            return GraphEndpoint(graph, surroundings)
        if source.file.suffix == ".py":
            from . import python

            async with self._python:
                return await python.load(source.file, surroundings)
        assert source.file.suffix != GRAPH
        return await self._scripts().load(source.file, surroundings)

    async def close(self) -> None:
        """End the processes that files run in."""
        if self._javascript is not None:
            await self._javascript.close()

    def _scripts(self) -> JavaScript:
        from .javascript import JavaScript

        if self._javascript is None:
            self._javascript = JavaScript(
                self._cache_dir, self._node_packages, variables=self._variables
            )
        return self._javascript
