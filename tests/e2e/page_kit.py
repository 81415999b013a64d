"""A real browser before a running system, and a connection between them that can be cut."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from playwright.sync_api import Browser, Page

Done = TypeVar("Done")

CHROMIUM = "/usr/bin/chromium"
QUIET = (
    "--no-sandbox",  # CI runs as root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
DROP = """([target, files]) => {
  const data = new DataTransfer();
  for (const [name, type, text] of files) data.items.add(new File([text], name, {type}));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const init = {dataTransfer: data, bubbles: true, cancelable: true};
    target.dispatchEvent(new DragEvent(kind, init));
  }
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Debian's Chromium while the block runs."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        try:
            yield browser
        finally:
            browser.close()


def sign_in(page: Page, url: str, token: str, *, database: str | None = None) -> None:
    """Go to the upload page and sign in as a person does."""
    page.goto(f"{url}/ingest" + ("" if database is None else f"?database={database}"))
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Choose files").wait_for()


def drop(page: Page, *files: tuple[str, str, str]) -> None:
    """Drop files, each a name, a media type and a text, where the page says so."""
    page.locator("body.headrace-scripted").wait_for()
    area = page.locator(".headrace-drop").element_handle()
    page.evaluate(DROP, [area, [list(each) for each in files]])


def wait_looked_at(page: Page) -> None:
    """Wait until each file that was chosen has its preview, or what is wrong with it."""
    page.wait_for_function(
        """() => [...document.querySelectorAll(".headrace-facts")]
          .every((facts) => !facts.textContent.includes("being looked at"))"""
    )


def find_barriers(page: Page) -> list[str]:
    """List what axe-core finds, at the width of a desk and of a phone."""
    found = []
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    for size in (WIDE, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type] # a ViewportSize
        for each in page.evaluate("axe.run().then((found) => found.violations)"):
            places = [node["html"] for node in each["nodes"]]
            found.append(f"{size['width']}: {each['id']}: {each['help']}: {places}")
    return found


def find_overflow(page: Page) -> list[str]:
    """Say how wide a page is, if that is wider than a phone."""
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    wide = page.evaluate("document.documentElement.scrollWidth")
    return [f"{wide} wide"] if wide > PHONE["width"] else []


class CuttingProxy:
    """Passes TCP on, until a client has sent so much over one connection; then it can be cut.

    Args:
        url: Where to.

    Attributes:
        halt_after_bytes: Counted from when it is set: a connection passes nothing on after that.
            None: none halts; so it is again when one has.
    """

    def __init__(self, url: str) -> None:
        self._port = urlsplit(url).port
        self._cut = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self.halt_after_bytes: int | None = None

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Listen while the block runs; give the URL."""
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            self._run(self._end(server))
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def cut(self) -> None:
        """Cut off the connection that has halted."""
        self._loop.call_soon_threadsafe(self._cut.set)

    def _run(self, work: Coroutine[Any, Any, Done]) -> Done:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _end(self, server: asyncio.Server) -> None:
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        ways = [
            asyncio.create_task(self._pass(reader, back, of_client=True)),
            asyncio.create_task(self._pass(there, writer, of_client=False)),
        ]
        with suppress(asyncio.CancelledError):  # at the end, when there is nobody to tell
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.transport.abort()
        back.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, of_client: bool
    ) -> None:
        passed = 0
        while chunk := await reader.read(64 * 1024):
            writer.write(chunk)
            await writer.drain()
            if not of_client or self.halt_after_bytes is None:
                continue
            passed += len(chunk)
            if passed > self.halt_after_bytes:
                self.halt_after_bytes = None
                await self._cut.wait()
                return
