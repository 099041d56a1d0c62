"""Drive a tab of a real browser as a person with a keyboard, a mouse and files does."""

from __future__ import annotations

import base64
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

OUTPUT = Path(__file__).parents[2] / "test-output" / "web"
WIDE, NARROW = 1600, 360
HEIGHTS = {WIDE: 1000, NARROW: 740}
SERIOUS = ("serious", "critical")
MAKE_DROP = """([name, type, text]) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const carried = new DataTransfer();
    carried.items.add(new File([bytes], name, {type}));
    return carried;
}"""


def find_chromium() -> str:
    """Return the browser's program. Raises FileNotFoundError saying how to get it."""
    found = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if found is None:
        raise FileNotFoundError(
            "The page's tests drive Chromium, which is not here. `make test` installs it as root; or: "
            "apt-get install chromium. CHROMIUM names another one."
        )
    return found


@dataclass
class Tab:
    """An open page, and the complaints in its console."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def sign_in(self, token: str) -> None:
        """Enter the token as a person does, with the keyboard alone."""
        self.page.goto(self.address)
        self.page.get_by_label("Token").fill(token)
        self.page.keyboard.press("Enter")
        self.page.get_by_role("navigation").wait_for()

    def go(self, place: str) -> None:
        """Follow an address within the page: "runs", "models/dogs"."""
        self.page.goto(f"{self.address}#/{place}")
        self.page.get_by_role("heading", level=1).wait_for()

    def drop(self, selector: str, name: str, kind: str, body: bytes) -> None:
        """Drop a file on a part of the page."""
        carried = self.page.evaluate_handle(MAKE_DROP, [name, kind, base64.b64encode(body).decode()])
        self.page.dispatch_event(selector, "drop", {"dataTransfer": carried})

    def limit_uploads(self, bytes_per_second: int) -> None:
        """Limit the network's upload speed; -1 removes the limit."""
        conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
        session = self.page.context.new_cdp_session(self.page)
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", conditions)

    def resize(self, width: int) -> None:
        self.page.set_viewport_size({"width": width, "height": HEIGHTS[width]})

    def keep(self, name: str) -> None:
        """Save a screenshot of the page at both widths, and check that neither scrolls sideways."""
        OUTPUT.mkdir(parents=True, exist_ok=True)
        for width in (NARROW, WIDE):
            self.resize(width)
            self.page.wait_for_timeout(120)
            self.page.screenshot(path=OUTPUT / f"{name}-{width}.png", full_page=True)
            assert self.page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} is wider than {width}"

    def find_barriers(self) -> list[str]:
        """Return the serious and critical violations that axe finds."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']][:3]}"
            for each in found
            if each["impact"] in SERIOUS
        ]


def open_tab(browser: Browser, address: str, width: int = WIDE, *, dark: bool = False) -> Tab:
    """Open a tab with its own session."""
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHTS[width]}, color_scheme="dark" if dark else "light", locale="en-GB"
    )
    page = context.new_page()
    page.set_default_timeout(15_000)
    tab = Tab(page, address)
    page.on("console", lambda message: tab.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    return tab
