"""A real browser before a running system."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

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
    # Datasette 1.0's search has a property `matches`, which hides the method that axe-core goes by.
    page.evaluate("document.querySelector('navigation-search')?.remove()")
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
