"""Every error that this package raises, drawn as a tree.

StatelessError                  500 internal_error
  RequestError                  400 invalid_request
    InvalidPrompt               400 invalid_prompt       details.node_errors is ComfyUI's own
    NoOutput                    400 no_output
    InvalidInput                400 invalid_input        an input or a model cannot be had
    TooLarge                    413 body_too_large
    KeyReused                   422 idempotency_key_reused
  Unauthorized                  401 unauthorized
  Forbidden                     403 publishing_not_allowed
  ForeignOrigin                 403 foreign_origin       a page of another origin sent it
  WrongHost                     421 wrong_host           ALLOWED_HOSTS does not list its Host
  NotFound                      404 not_found
  Gone                          410 gone
  MethodNotAllowed              405 method_not_allowed
  NotAcceptable                 406 not_acceptable
  UnsupportedMediaType          415 unsupported_media_type
  ExpectationFailed             417 expectation_failed
  QueueFull                     429 queue_full
  ExecutionError                500 execution_error      details names the node
    OutOfMemory                 500 out_of_memory
    WorkerDied                  500 worker_died
    Crashed                     500 crashed              the process died under an accepted job
  ExecutionInterrupted          409 interrupted
  ExecutionTimeout              504 timeout
  ConversionError               500 conversion_failed
  Superseded                    409 superseded           a later job uploads to the same URL
  Occupied                      409 workflow_occupied    a file that may not be replaced is there
  WorkflowFailed                500 workflow_failed      a workflow file, not the request, is wrong
  StorageError                  502 storage_error
    UnsupportedURL              400 unsupported_url
    HostRefused                 400 host_refused
    ObjectNotFound              400 object_not_found
    AccessDenied                400 access_denied
    WrongContent                400 wrong_content        a digest or a type does not fit
    TransferFailed              502 transfer_failed      may be tried again
      OutOfDescriptors          503 out_of_descriptors   this process has too many files open
    DeliveryFailed              502 delivery_failed      details.reason is another code
    NoSpace                     507 no_space
    FolderFailed                503 folder_failed        CACHE_DIR, or a folder of ComfyUI's
    JournalBusy                 503 journal_busy         locked, or its disk fails for now
    MissingDependency           501 missing_dependency   names the package to install
  BadGateway                    502 bad_gateway          ComfyUI went away under a request
  VersionNotSupported           505 http_version_not_supported
  Unavailable                   503 unavailable
    ConfigError                 503 invalid_configuration
      ManifestError             503 invalid_manifest
    InstallationFailed          503 installation_failed  a step of the manifest
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

from .texts import cut_short


class StatelessError(Exception):
    """An error with all that a response needs: a status, a code, a sentence, a place.

    Args:
        message: One sentence that a person can act on; cut where it is too long to be logged.
        location: Where in the request it went wrong, such as ``prompt.3.inputs.image``.
        details: Anything more, as JSON values.
        headers: Extra response headers, such as ``Retry-After``.
    """

    status: int = 500
    code: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        location: str | None = None,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.message = cut_short(message)
        super().__init__(self.message)
        self.location = location
        self.details = dict(details or {})
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Return the one JSON shape that every route answers errors in."""
        body: dict[str, Any] = {"error": self.message, "code": self.code}
        if self.location is not None:
            body["location"] = self.location
        body["details"] = self.details
        return body


class RequestError(StatelessError):
    """The request is wrong; nothing was queued."""

    status = 400
    code = "invalid_request"


class InvalidPrompt(RequestError):
    """ComfyUI's validation refused the graph."""

    code = "invalid_prompt"


class NoOutput(RequestError):
    """The graph has no output node, so nothing would come back."""

    code = "no_output"


class InvalidInput(RequestError):
    """An input or a model that the graph names cannot be had, or is not what it has to be."""

    code = "invalid_input"


class TooLarge(RequestError):
    """The body is over MAX_BODY_SIZE_MB."""

    status = 413
    code = "body_too_large"


class KeyReused(RequestError):
    """The Idempotency-Key came with another body before."""

    status = 422
    code = "idempotency_key_reused"


class Unauthorized(StatelessError):
    """API_KEYS is set and the request carries none of them."""

    status = 401
    code = "unauthorized"


class Forbidden(StatelessError):
    """ALLOW_PUBLISH is off, so that clients can neither save nor remove workflow endpoints."""

    status = 403
    code = "publishing_not_allowed"


class ForeignOrigin(StatelessError):
    """A browser sent this for a page of another origin, which may not use this server."""

    status = 403
    code = "foreign_origin"


class WrongHost(StatelessError):
    """The request calls this server by a name that ALLOWED_HOSTS does not list."""

    status = 421
    code = "wrong_host"


class NotFound(StatelessError):
    """There is no such route, no such job, or no such workflow."""

    status = 404
    code = "not_found"


class Gone(StatelessError):
    """The outputs of this job were not kept, for want of room or because they are too old."""

    status = 410
    code = "gone"


class MethodNotAllowed(StatelessError):
    """The route exists, but not for this method."""

    status = 405
    code = "method_not_allowed"


class NotAcceptable(StatelessError):
    """The outputs cannot be given in the form that Accept asks for."""

    status = 406
    code = "not_acceptable"


class UnsupportedMediaType(StatelessError):
    """The body is not in a form that this route reads."""

    status = 415
    code = "unsupported_media_type"


class ExpectationFailed(StatelessError):
    """Expect names something else than 100-continue."""

    status = 417
    code = "expectation_failed"


class QueueFull(StatelessError):
    """MAX_QUEUE_DEPTH is reached and REJECT_WHEN_FULL is on."""

    status = 429
    code = "queue_full"


class ExecutionError(StatelessError):
    """A node raised."""

    code = "execution_error"


class OutOfMemory(ExecutionError):
    """A node ran out of memory, of the device or of the host."""

    code = "out_of_memory"


class WorkerDied(ExecutionError):
    """The node ended ComfyUI's worker thread, which has been started again."""

    code = "worker_died"


class Crashed(ExecutionError):
    """The process died while the job ran, and the job cannot or may not be run again."""

    code = "crashed"


class ExecutionInterrupted(StatelessError):
    """The job was interrupted before it ended."""

    status = 409
    code = "interrupted"


class ExecutionTimeout(StatelessError):
    """The job was not done within its timeout_s."""

    status = 504
    code = "timeout"


class ConversionError(StatelessError):
    """An output is an image that could not be converted to the format asked for."""

    code = "conversion_failed"


class Superseded(StatelessError):
    """A later job uploads to a URL that this job's upload was still on its way to."""

    status = 409
    code = "superseded"


class Occupied(StatelessError):
    """A workflow file that clients may not replace or remove has this path."""

    status = 409
    code = "workflow_occupied"


class WorkflowFailed(StatelessError):
    """The file of a workflow endpoint is broken, or its own code failed or took too long."""

    code = "workflow_failed"


class StorageError(StatelessError):
    """A storage cannot be read from or written to. No message holds a URL's secrets.

    Attributes:
        is_servers: Whether it is this server's own trouble, whatever the request asks for.
    """

    status = 502
    code = "storage_error"
    is_servers: bool = False


class UnsupportedURL(StorageError):
    """No backend serves such a URL, or not with such credentials."""

    status = 400
    code = "unsupported_url"


class HostRefused(StorageError):
    """The policy does not let us connect there."""

    status = 400
    code = "host_refused"


class ObjectNotFound(StorageError):
    """There is no such object."""

    status = 400
    code = "object_not_found"


class AccessDenied(StorageError):
    """The origin wants other credentials, or any."""

    status = 400
    code = "access_denied"


class WrongContent(StorageError):
    """What came is not what was asked for: another digest, or another kind of file."""

    status = 400
    code = "wrong_content"


class TransferFailed(StorageError):
    """The connection could not be made or broke, or the origin failed; trying again may help.

    Attributes:
        retry_after_s: Seconds that the origin asks us to wait, None if it does not.
    """

    code = "transfer_failed"
    retry_after_s: float | None = None


class OutOfDescriptors(TransferFailed):
    """No connection could be made because this process, or this machine, has too many files open."""

    status = 503
    code = "out_of_descriptors"
    is_servers = True


class DeliveryFailed(StorageError):
    """An output could not be uploaded. ``details.uploaded`` lists what is there and stays."""

    code = "delivery_failed"


class NoSpace(StorageError):
    """The disk is too full for what was to be written."""

    status = 507
    code = "no_space"
    is_servers = True


class FolderFailed(StorageError):
    """A folder of the server's cannot be used: its disk fails, or it may not be written to."""

    status = 503
    code = "folder_failed"
    is_servers = True


class JournalBusy(StorageError):
    """Another program holds the journal, or its disk fails; trying again may help."""

    status = 503
    code = "journal_busy"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"Retry-After": "5"})


def full_disk(error: BaseException) -> NoSpace | None:
    """Return what a full disk means for a request, None where ``error`` says something else."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace("A disk of the server is full; its log says which.")
    return None


def is_out_of_descriptors(error: BaseException) -> bool:
    """Say whether the system gives no more descriptors."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


class MissingDependency(StorageError):
    """A Python package that this needs is not there, or broken; the message names it."""

    status = 501
    code = "missing_dependency"


class BadGateway(StatelessError):
    """ComfyUI ended, or answered nonsense, before the launcher had an answer to pass on."""

    status = 502
    code = "bad_gateway"


class VersionNotSupported(StatelessError):
    """The request calls itself another HTTP than 1.0 or 1.1."""

    status = 505
    code = "http_version_not_supported"


class Unavailable(StatelessError):
    """The server is starting, draining or failed, and takes no work."""

    status = 503
    code = "unavailable"


class ConfigError(Unavailable):
    """Environment variables have wrong values; the message lists every one."""

    code = "invalid_configuration"


class ManifestError(ConfigError):
    """The manifest is wrong; the message lists every wrong entry with its line."""

    code = "invalid_manifest"


class InstallationFailed(Unavailable):
    """What the manifest names cannot be installed; the message names the entry and its line."""

    code = "installation_failed"
