from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest
import standardwebhooks
import svix

from comfyui_stateless.journal import Content, new_message_id
from comfyui_stateless.webhooks import Signer, check_secret

KEY = base64.b64encode(bytes(range(200, 224))).decode()
"""With ``+`` and ``/`` in it, and without padding."""

PADDED = base64.b64encode(b"thirty-one bytes of a secret..!").decode()
BODY = '{"type": "prompt.complete", "id": "grüße"}'.encode()


def content(path: Path | None = None) -> Content:
    if path is None:
        return Content(len(BODY), data=BODY)
    path.write_bytes(BODY)
    return Content(len(BODY), path=path)


def headers(secret: str, body: Content) -> dict[str, str]:
    signer = Signer(check_secret(secret))
    return signer.headers(new_message_id(), int(time.time()), body, is_signed=True)


@pytest.mark.parametrize(
    "secret",
    [KEY, f"whsec_{KEY}", PADDED, f"whsec_{PADDED}"],
    ids=["plain", "prefixed", "padded", "prefixed-padded"],
)
def test_the_official_verifiers_accept_a_signature(secret: str) -> None:
    signed = headers(secret, content())
    assert standardwebhooks.Webhook(secret).verify(BODY, signed) == json.loads(BODY)
    svix.Webhook(secret).verify(BODY, signed)  # it raises, or returns nothing


def test_an_unpadded_secret_is_the_same_as_the_padded_one() -> None:
    assert PADDED.endswith("=")
    signed = headers(PADDED.rstrip("="), content())
    assert standardwebhooks.Webhook(PADDED).verify(BODY, signed)


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "body"])
def test_the_official_verifiers_refuse_what_was_changed(changed: str) -> None:
    signed, body = headers(KEY, content()), BODY
    if changed == "body":
        body += b" "
    elif changed == "webhook-id":
        signed[changed] += "x"
    else:
        signed[changed] = str(int(signed[changed]) + 1)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(KEY).verify(body, signed)
    with pytest.raises(svix.WebhookVerificationError):
        svix.Webhook(KEY).verify(body, signed)


def test_the_vector_of_the_specification_comes_out(tmp_path: Path) -> None:
    signer = Signer(check_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    vector = Content(0, data=b'{"test": 2432232314}')
    signed = signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, vector, is_signed=True)
    assert signed == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_body_in_a_file_gets_the_same_signature(tmp_path: Path) -> None:
    signer = Signer(check_secret(KEY))
    in_memory = signer.headers("msg_1", 1, content(), is_signed=True)
    assert signer.headers("msg_1", 1, content(tmp_path / "body"), is_signed=True) == in_memory


@pytest.mark.parametrize(
    ("signer", "is_signed"), [(Signer(), True), (Signer(b"key"), False)], ids=["no key", "unsigned"]
)
def test_without_a_signature_a_message_still_has_its_id_and_time(
    signer: Signer, is_signed: bool
) -> None:
    assert signer.headers("msg_1", 7, content(), is_signed=is_signed) == {
        "webhook-id": "msg_1",
        "webhook-timestamp": "7",
    }


@pytest.mark.parametrize("text", ["", "whsec_", "geheim!", "_-_-", "a", "c2Vj cmV0", "grüße"])
def test_a_secret_that_is_no_base64_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="is no base64") as caught:
        check_secret(text)
    assert not text or text == "a" or text == "whsec_" or text not in str(caught.value)


def test_a_key_is_not_in_a_repr() -> None:
    assert "geheim" not in repr(Signer(b"geheim"))


def test_ids_are_unique_and_in_form() -> None:
    ids = {new_message_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(name.startswith("msg_") and name.isidentifier() for name in ids)
