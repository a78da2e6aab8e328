"""Brings git repositories to disk: reads their URLs, clones them, fetches their large files."""

from __future__ import annotations

from .shelf import Clone, Repositories
from .urls import RepositoryURL, parse

__all__ = ["Clone", "Repositories", "RepositoryURL", "parse"]
