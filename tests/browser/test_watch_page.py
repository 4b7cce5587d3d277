"""The watch page: plays, tells what is buffered and where it came from."""

import time

from selenium.webdriver.common.by import By


def wait_for(what, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(.05)
    raise AssertionError("waited in vain")


def text(browser, element_id):
    return browser.find_element(By.ID, element_id).text


def position(browser):
    return browser.execute_script(
        "return document.getElementById('video').currentTime;")


def complaints(browser):
    return [line["message"] for line in browser.get_log("browser")
            if line["level"] in ("SEVERE", "WARNING")]


def test_plays_and_tells(clips, watch_server, browser):
    clip = clips["144p-faststart.mp4"]
    browser.get(watch_server.url(f"/?id={clip.name}&source=bench"))
    browser.execute_script("const v = document.getElementById('video');"
                           "v.muted = true; v.play();")
    wait_for(lambda: position(browser) > 1)
    assert text(browser, "picture") == f"{clip.width} \u00d7 {clip.height}"
    wait_for(lambda: "reelcache" in text(browser, "cache-status"))
    wait_for(lambda: "MiB" in text(browser, "size"))
    assert text(browser, "age") == "not told" \
        or text(browser, "age").endswith(" s")
    assert text(browser, "buffered").startswith("0:00.0 to ")
    painted = browser.execute_script(
        "const c = document.getElementById('ranges');"
        "return c.getContext('2d').getImageData(0, 0, c.width, 1).data"
        ".some((part) => part !== 0);")
    assert painted
    assert complaints(browser) == []


def test_form_opens_a_video(clips, watch_server, browser):
    clip = clips["144p-vp9.webm"]
    browser.get(watch_server.url("/"))
    assert "Which video" in text(browser, "message")
    browser.find_element(By.NAME, "id").send_keys(clip.name)
    browser.find_element(By.TAG_NAME, "button").click()
    wait_for(lambda: browser.execute_script(
        "return document.getElementById('video').readyState;") >= 2)
    assert browser.current_url.endswith(f"/?id={clip.name}")
    assert complaints(browser) == []


def test_says_what_is_wrong(watch_server, browser):
    browser.get(watch_server.url("/?id=no-such-video"))
    wait_for(lambda: "no such video" in text(browser, "message"))
