"""What boto3 reads of an answer before anybody asks for it, within limits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import TransferFailed

MAX_BYTES = 1024 * 1024
"""Of an answer that is no object: an error, or what S3 says of an upload."""

MAX_S = 60.0
"""In which the text of an error has to come. The end of an upload in parts may take minutes."""

_READ_BYTES = 64 * 1024


def bounded(send: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return what sends a request in botocore's place; for its event ``before-send``.

    botocore holds the whole of an error's text, however long it is and however long it takes.

    Args:
        send: Of botocore's own session.
    """

    def sent(request: Any, **_: object) -> Any:
        # botocore asks first, and where the connection ends in the answer it reads on for ever,
        # which nothing can stop.
        request.headers.pop("Expect", None)
        wants_object, request.stream_output = request.stream_output, True
        answer = send(request)
        is_error = answer.status_code >= 300
        if is_error or not wants_object:
            answer.raw = _Bounded(answer.raw, MAX_S if is_error else math.inf)
            # Read here, where what fails is an error of the request.
            _ = answer.content
        return answer

    return sent


def require_result(parsed: dict[str, Any], **_: object) -> None:
    """See that an upload in parts became an object; for botocore's event ``after-call``.

    Raises:
        TransferFailed: The answer is a success and says nothing: it may be of some other server.
    """
    if not {"Bucket", "ETag", "Error", "Key", "Location"} & parsed.keys():
        raise TransferFailed("The storage does not say that the parts became an object.")


class _Bounded:
    """As much of urllib3's response as botocore needs; one that is too long has no text.

    The status then tells what botocore would find in the text.
    """

    def __init__(self, raw: Any, seconds: float) -> None:
        self._raw = raw
        self._seconds = seconds

    def stream(self) -> Iterator[bytes]:
        """Give the whole body, or nothing of it."""
        deadline, body = time.monotonic() + self._seconds, bytearray()
        while piece := self._raw.read1(_READ_BYTES, decode_content=False):
            body += piece
            if len(body) > MAX_BYTES or time.monotonic() > deadline:
                self._raw.close()
                return
        yield bytes(body)
