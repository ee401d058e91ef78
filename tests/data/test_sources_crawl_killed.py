"""A service that is killed while it crawls: the next one reads each page once."""

import asyncio
import signal
import sys
import time
from pathlib import Path

from aimass.v1 import operations_pb2
from tests.data.extracting import Tenant
from tests.data.test_extractions_crash import ROOT
from tests.support.endpoints import Answer, Endpoints
from tests.support.house import house, until

RULE = {"json": {"columns": [{"name": "url", "from": "$.url", "type": "COLUMN_TYPE_STRING"}]}}
PAGES = 12
SETTINGS = {"AIMASS_EGRESS_ALLOW": "127.0.0.1", "AIMASS_DATA_EXTRACTION_SECONDS": "8"}


def source(url: str) -> dict[str, object]:
    return {"crawl": {"start_urls": [f"{url}/"], "requests_per_second": 20, "depth": 1}}


async def crawl(home: Path, url: str) -> None:
    """Reads some pages, until the server asks for more time than the run has; while more are read it is killed."""
    async with house(home, "data", **SETTINGS) as running:
        acme = Tenant(running)
        await acme.rule("a", source(url), RULE)
        await acme.extract("a")
        await asyncio.sleep(9)  # a run that begins before ends at once: it has not the time either
        print((await acme.begin("a")).operation, flush=True)
        await asyncio.sleep(30)


async def test_a_crawl_that_is_killed_goes_on_and_reads_each_page_once(home: Path) -> None:
    busy = ["/4"]

    def site(target: str, headers: dict[str, str]) -> Answer:
        if target in busy:
            busy.remove(target)
            return 429, {"retry-after": "9"}, b""
        time.sleep(0.1)
        links = "".join(f'<a href="/{number}">x</a>' for number in range(1, PAGES)) if target == "/" else target
        return 200, {"content-type": "text/html"}, links.encode()

    with Endpoints() as web:
        web.answers["/robots.txt"] = b""
        web.otherwise = site
        command = sys.executable, "-m", "tests.data.test_sources_crawl_killed", str(home), web.url
        dying = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
        assert dying.stdout
        operation = (await asyncio.wait_for(dying.stdout.readline(), 120)).decode().strip()
        before = len(web.asked)
        await until(lambda: len(web.asked) > before + 2)
        dying.send_signal(signal.SIGKILL)
        await dying.wait()
        async with house(home, "data", **SETTINGS) as running:
            acme = Tenant(running)
            done = await acme.ended(operation)
            assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED, done
            assert (await acme.version("a")).version == 2
            assert (await acme.extract("a")).records_read == 0
            found = [str(row["url"]).removeprefix(web.url) for row in await acme.rows("a")]
        assert sorted(found) == sorted(["/", *(f"/{number}" for number in range(1, PAGES))])


if __name__ == "__main__":
    asyncio.run(crawl(Path(sys.argv[1]), sys.argv[2]))
