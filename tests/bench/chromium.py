"""Debian's Chromium without a screen, as benchmarks and tests want it."""

import json

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
    "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding", "--disable-dev-shm-usage",
    "--window-size=1000,800", "--host-resolver-rules="
    "MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1",
]


def start(profile, flags=(), **logs):
    """A browser as if on a machine of its own; who calls quits it."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in [*FLAGS, *flags, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", **logs})
    driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"),
                              options=options)
    driver.set_script_timeout(60)
    driver.set_page_load_timeout(30)
    return driver


def requests_of(driver, path):
    """Ranges that were asked for of a path, in order; the browser was
    started with performance="ALL"."""
    found = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] != "Network.requestWillBeSent":
            continue
        request = message["params"]["request"]
        if request["url"].endswith(path):
            fields = {k.lower(): v for k, v in request["headers"].items()}
            found.append(fields.get("range", ""))
    return found
