"""The documentation, built as `make docs` builds it, and opened in a real browser."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

from tests.e2e.page_kit import PHONE, chromium, find_overflow
from tests.guide_kit import DOCS, FOR_PEOPLE, ROOT, blocks_of, pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, ConsoleMessage, Page, Response

PAGE_AT_MOST_BYTES = 200_000  # with styles and scripts, as they lie on the disk; without images
LINKS = MarkdownIt("gfm-like", {"linkify": False})
HOST = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}")
HERE = frozenset({"127.0.0.1", "localhost"})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pages."""
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", str(DOCS)]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def url(built: Path) -> Iterator[str]:
    """Serve the pages."""
    with serving(built) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give one browser for all pages."""
    with chromium() as browser:
        yield browser


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing of it."""

    def do_GET(self) -> None:
        """Serve a file; an icon that browsers ask for by themselves is none."""
        if self.path == "/favicon.ico":
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder while the block runs; give the URL."""
    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_pages_are_light_and_work_offline(built: Path, url: str, browser: Browser) -> None:
    """No page asks another host for anything, is heavy, or is wider than a phone."""
    with browser.new_context() as context:
        page = context.new_page()
        answers, said = listen(page)
        for path in sorted(built.rglob("*.html")):
            answers.clear()
            name = str(path.relative_to(built))
            page.set_viewport_size(PHONE)  # type: ignore[arg-type] # a ViewportSize
            page.goto(f"{url}/{name}")
            assert all(each.url.startswith(url) for each in answers), name
            assert not [each.text for each in said], name
            parts = {urlsplit(each.url).path[1:] for each in answers if is_weighed(each)}
            weight = sum((built / part).stat().st_size for part in parts)
            assert "_static/styles/furo.css" in parts, name  # also where the browser has it already
            assert weight <= PAGE_AT_MOST_BYTES, f"{name} weighs {weight:,} bytes"
            assert find_overflow(page) == [], name


def listen(page: Page) -> tuple[list[Response], list[ConsoleMessage]]:
    """Note what a page is answered from now on, and what it says on the console."""
    answers: list[Response] = []
    said: list[ConsoleMessage] = []
    page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108 - no builtin can be
    page.on("console", lambda message: said.append(message))  # noqa: PLW0108
    return answers, said


def is_weighed(answer: Response) -> bool:
    """Say whether an answer is a part of the page: no image, nor the index of all pages."""
    is_index = answer.url.partition("?")[0].endswith("/searchindex.js")
    return not is_index and answer.request.resource_type != "image"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_drawings_follow_the_theme_that_was_chosen(url: str, browser: Browser, scheme: str) -> None:
    """Whoever chooses a theme on the page has its drawings in it, whatever the system's is."""
    other = {"light": "dark", "dark": "light"}[scheme]
    with browser.new_context(color_scheme=other) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(f"{url}/explanation/design.html")
        page.evaluate(f"document.body.dataset.theme = '{scheme}'")
        ground = page.locator("body").evaluate("getComputedStyle(document.body).backgroundColor")
        drawing = page.locator("img[src*='steps']")
        drawing.scroll_into_view_if_needed()
        assert corner_of(page, drawing.screenshot()) == ground


def corner_of(page: Page, png: bytes) -> str:
    """Give the colour of the first pixel of an image, as CSS writes it."""
    colour: str = page.evaluate(
        """async (bytes) => {
          const image = await createImageBitmap(new Blob([new Uint8Array(bytes)]));
          const canvas = new OffscreenCanvas(1, 1).getContext("2d");
          canvas.drawImage(image, 0, 0);
          return `rgb(${[...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).join(", ")})`;
        }""",
        list(png),
    )
    return colour


def test_search_finds_a_page(url: str, browser: Browser) -> None:
    """The search works without a server that knows it."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{url}/search.html?q=generation")
        page.locator("#search-results li a").first.wait_for()


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path, built: Path) -> None:
    """Each link within the project leads to what is there; the others are well-formed.

    Whether other hosts still have what is linked to is for `make links`: the tests have no network.
    """
    for link in links_of(page):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https" or parts.hostname in HERE, f"{page}: {link}"
            assert HOST.fullmatch(parts.hostname or "") or parts.hostname in HERE, f"{page}: {link}"
            assert not re.search(r"[\s<>\"{}|\\^`]|[.,;]$", link), f"{page}: {link}"
            continue
        target = page if not parts.path else (page.parent / unquote(parts.path)).resolve()
        assert target.exists(), f"{page}: {link}"
        if parts.fragment and DOCS in target.parents:
            html = built / target.relative_to(DOCS).with_suffix(".html")
            assert f'id="{parts.fragment}"' in html.read_text(), f"{page}: {link}"


def links_of(page: Path) -> list[str]:
    """List where a page's links and images lead to."""
    inline = (each for token in LINKS.parse(page.read_text()) for each in token.children or ())
    found = [each.attrGet("href") or each.attrGet("src") for each in inline]
    return [str(each) for each in found if each]


def test_commands_that_are_not_run_are_commands(tmp_path: Path) -> None:
    """A block that no test can run is a script, at least."""
    script = tmp_path / "script"
    for page in pages():
        for block in blocks_of(page):
            if block.language == "sh" and block.note.startswith(FOR_PEOPLE):
                script.write_text(block.text)
                subprocess.run(["bash", "-n", str(script)], check=True)
