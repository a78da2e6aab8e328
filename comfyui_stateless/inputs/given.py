"""What comes with a request for its inputs: credentials, files of a form, files inside texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..engine import InputFile
from ..errors import InvalidInput
from ..inline import Inline, decode
from ..storage.auth import Credential, is_too_much
from .wanted import UPLOAD, Wanted, is_address


class Uploaded(NamedTuple):
    """A file that came with the request, whole, in a folder that lives as long as the request."""

    path: Path
    digest: str
    extension: str


@dataclass(frozen=True, slots=True)
class Given:
    """What a request brings for its fetches.

    Attributes:
        credentials: In the order in which their patterns are tried.
        uploads: The files that came with it, by the name of their part.
    """

    credentials: Sequence[Credential] = field(default=(), repr=False)
    uploads: Mapping[str, Uploaded] = field(default_factory=dict)

    def require_choosable(self, wanted: Iterable[Wanted]) -> None:
        """See that there are not too many patterns for the addresses that are wanted.

        Raises:
            InvalidInput: There are: choosing among them would take too long.
        """
        if self.credentials and is_too_much(
            (value for w in wanted for value in w.values if is_address(value)), self.credentials
        ):
            raise InvalidInput(
                "The graph names too many addresses for so many credentials: send fewer of either.",
                location="credentials",
            )


def uploaded(value: str, uploads: Mapping[str, Uploaded]) -> InputFile:
    """Return the file that an ``upload://`` text names.

    Raises:
        InvalidInput: None of that name came.
    """
    name = value[len(UPLOAD) :]
    if name not in uploads:
        sent = ", ".join(sorted(uploads)) or "none"
        raise InvalidInput(f"The request has no file part named {name!r}; it has: {sent}.")
    file = uploads[name]
    return InputFile(file.path, file.digest, file.extension)


def inline_file(value: str) -> Inline:
    """Return the file that a text holds. Of large texts, call it on a thread.

    Raises:
        InvalidInput: It holds none, or a broken one.
    """
    inline = decode(value)
    if inline is None:
        raise InvalidInput("The value is neither base64 nor a data URL of a file of a known type.")
    return inline
