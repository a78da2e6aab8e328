from __future__ import annotations

import pytest
from multidict import CIMultiDict

from comfyui_stateless.config import Settings
from comfyui_stateless.errors import WrongHost
from comfyui_stateless.hosts import host_names, require_host
from tests.gateway.conftest import Serve

ALLOWED = "api.example.com, 127.0.0.1, [::1], INTERNAL"


@pytest.mark.parametrize(
    "host",
    [
        "api.example.com",
        "API.example.com:8443",
        "api.example.com.",
        "127.0.0.1:8188",
        "[::1]:8188",
        "[0:0:0:0:0:0:0:1]",
        "internal",
    ],
)
def test_a_name_that_is_listed_is_taken_with_any_port(host: str) -> None:
    require_host(CIMultiDict({"Host": host}), host_names(ALLOWED))


@pytest.mark.parametrize(
    "hosts",
    [
        ["evil.example"],
        ["api.example.com.evil.example"],
        ["evil-api.example.com"],
        ["x.api.example.com"],
        ["127.0.0.1.nip.example:8188"],
        ["localhost"],
        ["::1"],
        ["api.example.com:80:80"],
        ["api.example.com:80@evil.example"],
        ["evil.example@api.example.com"],
        ["[api.example.com"],
        ["api.example.com, evil.example"],
        ["api.example.com", "evil.example"],
        ["evil.example\r\nHost: api.example.com"],
        [""],
        [],
    ],
)
def test_any_other_is_refused(hosts: list[str]) -> None:
    headers = CIMultiDict([("Host", host) for host in hosts])
    headers["X-Forwarded-Host"] = "api.example.com"
    with pytest.raises(WrongHost, match="ALLOWED_HOSTS"):
        require_host(headers, host_names(ALLOWED))


@pytest.mark.parametrize(
    "text", [",", "https://api.example.com", "api.example.com:80", "*", "*.example.com", "a b", "ü"]
)
def test_what_is_no_list_of_names_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        Settings(allowed_hosts=text)


async def test_a_page_on_a_name_that_was_made_to_lead_here_gets_nothing(serve: Serve) -> None:
    site = await serve(hosts=host_names("api.example.com"), expose_comfyui=True)
    rebound = {"Host": "evil.example", "Origin": "http://evil.example"}
    for path in ("/prompt", "/jobs", "/openapi.json", "/", "/api/prompt", "/ws"):
        assert await site.error("GET", path, headers=rebound) == (421, "wrong_host")
    assert site.comfy.seen == []
    async with site.http.post("/prompt", headers={"Host": "api.example.com:1"}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_probes_may_be_asked_by_any_name(serve: Serve, path: str) -> None:
    site = await serve(hosts=host_names("api.example.com"))
    async with site.http.get(path, headers={"Host": "10.1.2.3:3000"}) as answer:
        assert answer.status == 200
