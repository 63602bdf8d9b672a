"""Uses the page of `engram serve` as a person does, in a headless Chromium: learns two classes, asks, corrects, forgets.

    apt-get install chromium
    pip install playwright
    cargo build --release && python3 tests/serve.py target/release/engram [SCREENSHOT.png]
"""
import json
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path

from playwright.sync_api import expect, sync_playwright


def write_png(path, colour, number):
    """A picture of 48 x 48: a ground of one colour, with a small bright square at a place of its own."""
    rows = []
    for y in range(48):
        row = bytearray()
        for x in range(48):
            inside = 8 <= x - 2 * (number % 10) < 20 and 8 <= y - number // 10 * 4 < 20
            row += bytes(min(255, c + 60 * inside) for c in colour)
        rows.append(b"\0" + bytes(row))

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 48, 48, 8, 2, 0, 0, 0)
    image = zlib.compress(b"".join(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", image) + chunk(b"IEND", b""))


def pictures(folder, name, colour, n):
    (folder / name).mkdir(parents=True)
    for i in range(n):
        write_png(folder / name / f"{name}{i:02}.png", colour, i)
    return sorted((folder / name).iterdir())


def start(folder, *arguments):
    """The server, and where it listens."""
    command = [PROGRAM, "serve", "parts.engram", "--port", "0", "--device", "cpu", *arguments]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    for line in server.stdout:
        found = re.search(r"http://[^/]+/", line)
        if found:
            return server, found.group()
    sys.exit(f"the server ended with {server.wait()}")


def stop(server):
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=10) == 0, "Ctrl-C is the usual end"
    assert "Stopped" in server.stdout.read()


def use(page, address, folder, screenshot):
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(address)
    expect(page.locator("#classes li")).to_have_count(2)

    # A new class, from eight pictures.
    page.fill("#class", "water")
    page.set_input_files("#examples", pictures(folder, "water", (20, 40, 190), 8))
    page.click("#teach button")
    expect(page.locator("#message")).to_contain_text("Learned 8 pictures of water")
    expect(page.locator("#classes li")).to_have_count(3)

    # Two pictures, dropped; the last one stands first.
    write_png(folder / "a.png", (22, 42, 180), 33)
    write_png(folder / "b.png", (200, 30, 25), 33)
    page.set_input_files("#files", [folder / "a.png", folder / "b.png"])
    rows = page.locator(".picture")
    expect(rows).to_have_count(2)
    best = lambda row: row.locator(".guess span").first
    expect(best(rows.nth(1))).to_have_text("water")
    expect(best(rows.nth(0))).to_have_text("fire")
    expect(rows.nth(0).locator("small")).to_contain_text("most like fire")

    # A mistake, corrected: a picture of another kind is learned as a class of its own.
    write_png(folder / "c.png", (240, 240, 240), 5)
    page.set_input_files("#files", [folder / "c.png"])
    expect(rows).to_have_count(3)
    rows.nth(0).locator("form input").fill("snow <b>&")
    rows.nth(0).locator("form button").click()
    expect(page.locator("#classes li")).to_have_count(4)
    expect(best(rows.nth(0))).to_have_text("snow <b>&")
    if screenshot:
        page.screenshot(path=screenshot, full_page=True)

    # What is no picture is told.
    (folder / "text.png").write_text("no picture")
    page.set_input_files("#files", [folder / "text.png"])
    expect(rows.nth(0).locator(".error")).to_contain_text("no picture")

    page.locator("#classes li", has_text="snow").locator("button").click()
    expect(page.locator("#classes li")).to_have_count(3)
    # The server's refusal of the text is an error to the console, and the only one.
    assert [error for error in errors if "422" not in error] == [], errors
    assert all(url.startswith((address, "blob:")) for url in requests), requests


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, colour in (("fire", (200, 30, 20)), ("grass", (30, 180, 40))):
            pictures(folder / "pictures", name, colour, 12)
        command = [PROGRAM, "learn", "parts.engram", "--from", "pictures", "--device", "cpu"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        server, address = start(folder)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            use(browser.new_page(), address, folder, sys.argv[2] if len(sys.argv) > 2 else None)
            stop(server)

            # What was learned while serving is in the file; with a token the page needs it behind its address.
            server, address = start(folder, "--token", "correct-horse-battery")
            page = browser.new_page()
            page.goto(address)
            expect(page.locator("#message")).to_contain_text("a token is needed")
            page = browser.new_page()
            page.goto(address + "#token=correct-horse-battery")
            expect(page.locator("#classes li")).to_have_count(3)
            browser.close()
        request = urllib.request.Request(address + "classes", headers={"Authorization": "Bearer correct-horse-battery"})
        names = [one["name"] for one in json.load(urllib.request.urlopen(request))["classes"]]
        assert names == ["fire", "grass", "water"], names
        try:
            urllib.request.urlopen(address + "classes")
            sys.exit("answered without a token")
        except urllib.error.HTTPError as error:
            assert error.code == 401
        stop(server)
    print("the page learns, answers, corrects and forgets")


PROGRAM = str(Path(sys.argv[1]).resolve()) if len(sys.argv) > 1 else sys.exit("usage: serve.py ENGRAM [SCREENSHOT]")
CHROMIUM = shutil.which("chromium") or sys.exit("SKIPPED: no chromium")
if __name__ == "__main__":
    main()
