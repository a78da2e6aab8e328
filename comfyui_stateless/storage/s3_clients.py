"""boto3's clients and boto3's errors, for the S3 backend."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from ..config import Proxies
from ..errors import (
    AccessDenied,
    ObjectNotFound,
    StorageError,
    TransferFailed,
    UnsupportedURL,
)
from ..naming import redacted
from .auth import S3Auth
from .s3_answers import bounded, require_result
from .vendors import hush, needed, proxy_url

DEFAULT_REGION = "us-east-1"
AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn")
MAX_CLIENTS = 32
"""So many sets of credentials have a client that is kept."""

LIMITS: dict[str, Any] = {
    "connect_timeout": 10,
    "read_timeout": 30,
    "retries": {"total_max_attempts": 1},
    "max_pool_connections": 50,
}
"""Seconds, attempts, connections. What is worth another attempt is tried again by the caller."""

NOT_FOUND = {"404", "NoSuchBucket", "NoSuchKey", "NoSuchVersion", "NotFound"}
DENIED = {
    "AccessDenied": "these credentials may not do this",
    "AuthorizationHeaderMalformed": "the region is another one",
    "ExpiredToken": "the session token has expired",
    "InvalidAccessKeyId": "the access key id is not known there",
    "InvalidToken": "the session token is not valid",
    "RequestTimeTooSkewed": "this machine's clock differs too much from the storage's",
    "SignatureDoesNotMatch": "the secret access key does not fit the access key id",
}


AGAIN = {
    "BadDigest", "IncompleteBody", "InvalidPart", "NoSuchUpload", "OperationAborted",
    "RequestTimeout", "SlowDown", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch",
}  # fmt: skip
"""Something was lost or changed on its way: most of these come with a 400."""


class S3Clients:
    """Makes boto3's clients, one for each set of credentials; threads share them.

    Args:
        region: AWS_REGION, which boto3 does not read; outranks AWS_DEFAULT_REGION and profiles.
    """

    def __init__(self, proxies: Proxies, region: str | None = None) -> None:
        self._proxies = proxies
        self._region = region
        self._lock = threading.Lock()
        self._made: dict[S3Auth | None, Any] = {}
        self._session: Any = None

    def of(self, keys: S3Auth | None) -> Any:
        with self._lock:
            client = self._made.pop(keys, None) or self._make(keys)
            self._made[keys] = client
            if len(self._made) > MAX_CLIENTS:
                # Not closed: another thread may be using it.
                del self._made[next(iter(self._made))]
            return client

    def close(self) -> None:
        with self._lock:
            for client in self._made.values():
                client.close()
            self._made.clear()

    def _make(self, keys: S3Auth | None) -> Any:
        # One for all: each would parse megabytes of descriptions.
        self._session = session = self._session or sdk().Session()

        operators = self._region or session.region_name or DEFAULT_REGION

        def client(**options: object) -> Any:
            return session.client(
                "s3",
                region_name=(keys and keys.region) or operators,
                config=sdk().Config(**LIMITS, **options),
                **_given(keys),
            )

        try:
            # The endpoint is from a variable, a profile or the region: a client knows it.
            endpoint: str = client().meta.endpoint_url
            made = client(**_signing(keys, endpoint), proxies=self._proxies_to(endpoint))
        except ValueError:
            raise UnsupportedURL("The region or the endpoint for s3:// is malformed.") from None
        sender = made._endpoint.http_session  # noqa: SLF001 - there is no public way to it
        made.meta.events.register("before-send.s3", bounded(sender.send))
        made.meta.events.register("after-call.s3.CompleteMultipartUpload", require_result)
        return made

    def _proxies_to(self, endpoint: str) -> dict[str, str]:
        proxy = proxy_url(endpoint, self._proxies)
        return {} if proxy is None else {urlsplit(endpoint).scheme: proxy}


def sdk() -> SimpleNamespace:
    """Return what is used of boto3; it is a sixth of a second to import.

    Raises:
        MissingDependency: It is not there, or broken.
    """
    with needed("boto3", "s3://"):
        import boto3
        from boto3.s3.transfer import TransferConfig
        from botocore import exceptions
        from botocore.config import Config
        from urllib3.exceptions import HTTPError
    hush("boto3", "botocore", "s3transfer", "urllib3")
    return SimpleNamespace(
        Config=Config,
        HTTPError=HTTPError,
        Session=boto3.Session,
        TransferConfig=TransferConfig,
        exceptions=exceptions,
    )


def _given(keys: S3Auth | None) -> dict[str, str | None]:
    """Return the arguments that stand in for the environment's credentials and endpoint."""
    if keys is None:
        return {}
    token = keys.session_token.get_secret_value() if keys.session_token else None
    return {
        "aws_access_key_id": keys.access_key_id,
        "aws_secret_access_key": keys.secret_access_key.get_secret_value(),
        "aws_session_token": token,
        "endpoint_url": keys.endpoint,
    }


def _signing(keys: S3Auth | None, endpoint: str) -> dict[str, Any]:
    """Return the settings of how requests to an endpoint are addressed and signed."""
    is_aws = (urlsplit(endpoint).hostname or "").endswith(AWS_HOSTS)
    style = {} if is_aws else {"addressing_style": "path"}
    if keys is None or keys.endpoint is None:
        return {"s3": style} if style else {}
    # A directory bucket's session would be asked for at once, at an endpoint that nobody checked.
    return {"s3": {**style, "disable_s3_express_session_auth": True}, "signature_version": "s3v4"}


@contextmanager
def translated(url: str, keys: S3Auth | None) -> Iterator[None]:
    """Turn boto3's errors into ours. Their texts are the storage's own, and are not passed on."""
    its, theirs = sdk(), sdk().exceptions
    try:
        yield
    except theirs.ClientError as error:
        raise _refusal(url, keys, error) from None
    except (
        theirs.ConnectionError, theirs.HTTPClientError, theirs.IncompleteReadError,
        theirs.FlexibleChecksumError, its.HTTPError,
    ) as error:  # fmt: skip
        text = f"The connection for {redacted(url)} failed: {type(error).__name__}."
        raise TransferFailed(text) from None
    except theirs.ParamValidationError:
        raise UnsupportedURL(f"{redacted(url)} has no valid bucket or key.") from None
    except theirs.BotoCoreError as error:
        text = f"{redacted(url)} cannot be asked for: {type(error).__name__}. {_advice(keys)}"
        raise AccessDenied(text) from None


def _refusal(url: str, keys: S3Auth | None, error: Any) -> StorageError:
    """Return what an answer of the storage that is an error means."""
    shown, code, answer = redacted(url), code_of(error), error.response["ResponseMetadata"]
    status = answer.get("HTTPStatusCode", 0)
    if (code in NOT_FOUND or status == 404) and code not in AGAIN:
        what = "bucket" if code == "NoSuchBucket" else "object"
        return ObjectNotFound(f"There is no such {what}: {shown}.")
    if code in DENIED or status in (401, 403):
        why = DENIED.get(code, f"the storage answers {code}")
        return AccessDenied(f"Access to {shown} is denied: {why}. {_advice(keys)}")
    if status >= 500 or status in (408, 429) or code in AGAIN:
        failed = TransferFailed(f"The storage of {shown} answers {status} {code}.")
        wait = answer.get("HTTPHeaders", {}).get("retry-after", "")
        failed.retry_after_s = float(wait) if wait.isdigit() else None
        return failed
    return StorageError(f"The storage of {shown} answers {status} {code}.")


def code_of(error: Any) -> str:
    """Return the storage's word for an error; nothing else of what it wrote."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if code.isalnum() and len(code) <= 64 else "an unknown error"


def _advice(keys: S3Auth | None) -> str:
    if keys is None:
        return "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL say how."
    return "The keys are those of the request's own credentials."
