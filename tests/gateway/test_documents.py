import re

import pytest

from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_root_leads_to_the_page(gateway: Gateway) -> None:
    async with gateway.client() as client:
        answer = await client.get("/", follow_redirects=True)

    assert answer.url.path == "/docs"
    assert "swagger-ui" in answer.text


async def test_the_page_needs_nothing_from_elsewhere(gateway: Gateway) -> None:
    async with gateway.client() as client:
        page = await client.get("/docs")
        sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        answers = [await client.get(source) for source in sources]

    assert len(sources) == 4
    assert all(source.startswith("/docs/") for source in sources)
    assert all(answer.status_code == 200 and answer.content for answer in answers)
    assert "default-src 'self'" in page.headers["content-security-policy"]


async def test_the_bundle_is_a_recent_swagger_ui(gateway: Gateway) -> None:
    async with gateway.client() as client:
        script = await client.get("/docs/swagger-ui-bundle.js")

    assert "SwaggerUIBundle" in script.text
    assert "openapi:3.1" in script.text.replace(" ", "") or "3.1" in script.text


@pytest.mark.parametrize("path", ["/docs/nothing.js", "/docs/..%2f..%2fetc%2fpasswd", "/docs/__init__.py"])
async def test_there_are_no_other_files(gateway: Gateway, path: str) -> None:
    async with gateway.client() as client:
        answer = await client.get(path)

    assert answer.status_code == 404


async def test_the_document_tells_of_what_runs(gateway: Gateway) -> None:
    async with gateway.client() as client:
        document = (await client.get("/openapi.json")).json()

    assert "/v1/tenants" in document["paths"]
    assert "/v2/models/{model}/infer" in document["paths"]
