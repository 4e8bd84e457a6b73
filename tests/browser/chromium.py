"""Debian's Chromium without a window, driven by selenium; nothing that a package downloads by itself."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.browser import axe

WIDTHS = (390, 1440)
HEIGHT = 900


def missing() -> str | None:
    """Why the pages cannot be tried here; None where they can."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install chromium chromium-driver"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed: pip install 'ftcheck[dev]'"
    return None


class Browser:
    """One browser; `open` shows a page in it as on a screen of some width, in the light or in the dark."""

    def __init__(self) -> None:
        """Starts it."""
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = Service(str(shutil.which("chromedriver")))
        self.driver: Any = webdriver.Chrome(options=options, service=service)

    def close(self) -> None:
        """Ends it."""
        self.driver.quit()

    def tell(self, command: str, **values: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(command, values)

    def open(self, page: Path, width: int = 1440, *, dark: bool = False, medium: str = "") -> None:
        """Show a file; what the browser logged before is forgotten."""
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=HEIGHT,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.tell("Emulation.setEmulatedMedia", media=medium, features=[scheme, still])
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(page.resolve().as_uri())
        if (
            self.run("try { localStorage.clear() } catch { } return document.documentElement.dataset.theme")
            != scheme["value"]
        ):
            self.driver.refresh()

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns; WebDriver's own scripts are not held to the page's policy."""
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """What stands in the console."""
        return [str(one["message"]) for one in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The addresses that the page asked for, the page itself among them."""
        return list(self._requested())

    def _requested(self) -> Iterator[str]:
        for line in self.driver.get_log("performance"):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                yield str(message["params"]["request"]["url"])

    def violations(self) -> list[str]:
        """What axe-core finds wrong, a line each: rule, help, the elements."""
        text = axe.script()
        assert text is not None
        self.tell("Runtime.evaluate", expression=text)
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(done)"
        )
        return [_said(one) for one in found["violations"]]

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        actions = ActionChains(self.driver)
        for key in keys:
            actions.send_keys(key)
        actions.perform()


def _said(one: dict[str, Any]) -> str:
    places = ", ".join(str(node["target"][0]) + ": " + node["failureSummary"] for node in one["nodes"][:3])
    return f"{one['id']}: {one['help']} ({len(one['nodes'])} elements): {places}"
