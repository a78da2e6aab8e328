from __future__ import annotations

import pytest

from comfyui_stateless.api.negotiation import Accept, Form, choose, require_servable
from comfyui_stateless.engine import OutputFile
from comfyui_stateless.errors import NotAcceptable

PNG = OutputFile("9", "a.png", "image", "image/png", b"x", 1, 1, 1)
ZIPPED = OutputFile("9", "a.zip", "file", "application/zip", b"x", 1, None, None)


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("", Form.JSON),
        ("*/*", Form.JSON),
        ("*", Form.JSON),
        ("application/json", Form.JSON),
        ("application/*", Form.JSON),
        ("Application/JSON; charset=utf-8", Form.JSON),
        ("image/png", Form.BYTES),
        ("IMAGE/*", Form.BYTES),
        ("application/octet-stream", Form.BYTES),
        ("multipart/mixed", Form.MULTIPART),
        ("multipart/*", Form.MULTIPART),
        ("application/zip", Form.ZIP),
        ("image/*, application/json", Form.BYTES),
        ("application/json, image/*", Form.JSON),
        ("image/*;q=0.5, application/json", Form.JSON),
        ("image/*, */*", Form.BYTES),
        ("video/*, */*;q=0.1", Form.JSON),
        ("text/html, image/webp, */*;q=0.8", Form.JSON),
        ("image/*, image/png;q=0, application/zip;q=0.1", Form.ZIP),
        ("application/json;q=0, */*", Form.MULTIPART),
        ("text/html, image/gif, *; q=.2", Form.JSON),
        ("image/png;q=nonsense", Form.BYTES),
        ("image/png;level=1;q=0.9, application/json;q=0.8", Form.BYTES),
    ],
)
def test_the_form_is_what_accept_likes_most(header: str, form: Form) -> None:
    accept = Accept([header])
    require_servable(accept)
    assert choose(accept, [PNG]).form is form


def test_several_headers_count_as_one() -> None:
    assert choose(Accept(["video/*", "application/zip"]), [PNG]).form is Form.ZIP


def test_no_header_means_json() -> None:
    assert choose(Accept(), [PNG]).form is Form.JSON


def test_an_output_that_is_an_archive_itself_is_still_put_into_one() -> None:
    assert choose(Accept(["application/zip"]), [ZIPPED]).form is Form.ZIP


@pytest.mark.parametrize("header", ["image/webp", "video/*", "image/png;q=0", "model/*"])
def test_an_output_of_another_type_is_not_acceptable(header: str) -> None:
    with pytest.raises(NotAcceptable) as caught:
        choose(Accept([header]), [PNG])
    assert caught.value.details["outputs"] == [
        {
            "node_id": "9",
            "filename": "a.png",
            "type": "image",
            "media_type": "image/png",
            "size_bytes": 1,
            "width": 1,
            "height": 1,
        }
    ]


@pytest.mark.parametrize(
    "header", ["text/html", "text/*", "*/json", "application/json;q=0", "nonsense", ";;;"]
)
def test_what_no_graph_could_give_is_refused_at_once(header: str) -> None:
    with pytest.raises(NotAcceptable):
        require_servable(Accept([header]))
