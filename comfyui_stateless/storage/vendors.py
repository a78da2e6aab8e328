"""What the vendors' SDKs need around them: an end to waiting, and silence about what is secret."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import TypeVar

from ..config import Proxies
from ..errors import MissingDependency
from .base import Cancel, Cancelled
from .policy import parse
from .proxies import proxy_for

T = TypeVar("T")


def until_done(
    call: Callable[[], T],
    cancel: Cancel,
    discard: Callable[[T], object] = lambda _: None,
    *,
    stops_within_s: float = 0.0,
) -> T:
    """Return what ``call`` returns, or stop to wait for it once it is cancelled.

    An SDK's request cannot be interrupted, so it runs on a thread of its own, which a cancelled
    caller leaves behind: the SDK's own timeouts end it.

    Args:
        discard: Gets the result that came too late.
        stops_within_s: How long a cancelled ``call`` that sees that itself is waited for.

    Raises:
        Cancelled: It was cancelled.
    """
    future: Future[T] = Future()
    thread = threading.Thread(target=_run, args=(call, future, discard), daemon=True)
    try:
        with cancel.calling(future.cancel):
            thread.start()
            return future.result()
    except CancelledError:
        thread.join(stops_within_s)
        raise Cancelled from None


def _run(call: Callable[[], T], future: Future[T], discard: Callable[[T], object]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
        with suppress(InvalidStateError):
            future.set_exception(error)
        return
    try:
        future.set_result(result)
    except InvalidStateError:
        discard(result)


@contextmanager
def needed(package: str, for_what: str) -> Iterator[None]:
    """Import inside of it what ``for_what`` needs.

    Raises:
        MissingDependency: The package is not there, or broken; the message says how to get it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"{for_what} needs the package {package}: pip install {package}"
        ) from error
    except Exception as error:  # a broken package may raise anything
        raise MissingDependency(
            f"{for_what} needs the package {package}, and the one that is there cannot be imported "
            f"({type(error).__name__}: {error}): pip install --force-reinstall {package}"
        ) from error


def hush(*names: str) -> None:
    """Keep loggers that write down headers and signed URLs from DEBUG, unless they are set to it.

    ComfyUI's ``--verbose DEBUG`` would have them do so: it sets the root's level, which they have.
    """
    for name in names:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)


def proxy_url(endpoint: str, proxies: Proxies) -> str | None:
    """Return the URL of the proxy that an SDK reaches ``endpoint`` through, None for none."""
    target = parse(endpoint)
    secret = proxies.https if target.scheme == "https" else proxies.http
    if secret is None or proxy_for(target, proxies) is None:
        return None
    url = secret.get_secret_value()
    return url if "://" in url else f"http://{url}"
