#!/usr/bin/env python3
"""Checks the manual pages.

Every option of conf/options.def is in reelcache.ini(5), in its section, with
its default and the bounds, whether it takes a restart; and nothing else is.
All pages are free of warnings of mandoc.
"""
import os
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(os.environ.get("REEL_SRCDIR", "."))
PAGE = TOP / "docs" / "reelcache.ini.5"
MANDOC = os.environ.get("MANDOC", "mandoc")

BYTES = {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40,
         "EIB": 1 << 60}
SIZE_UNITS = ["", "K", "M", "G", "T", "P", "E"]
TIME_UNITS = [("d", 86400000), ("h", 3600000), ("m", 60000), ("s", 1000)]


def read_rows():
    text = (TOP / "src" / "conf" / "options.def").read_text()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    row = re.compile(
        r'^OPT\((\w+),\s*(\w+),\s*(\w+),\s*"([^"]*)",\s*'
        r'(CHOICES\("([^"]*)"\)|[^,]+),\s*([^,]+),\s*(\w+),\s*"([^"]*)"\)',
        re.M)
    rows = [m.groups() for m in row.finditer(text)]
    if len(rows) != len(re.findall(r"^OPT\(", text, re.M)):
        sys.exit("options.def has a row that this lint cannot read")
    return rows


def number(expression):
    value = 1
    for factor in expression.split("*"):
        value *= BYTES.get(factor.strip()) or int(factor)
    return value


def as_size(n):
    power = 0
    while n and n % 1024 == 0 and power < 6:
        n //= 1024
        power += 1
    return f"{n}{SIZE_UNITS[power]}"


def as_time(n):
    for name, factor in TIME_UNITS:
        if n and n % factor == 0:
            return f"{n // factor}{name}"
    return f"{n}ms" if n else "0"


def bounds(kind, low, high, words):
    if kind == "BYTES":
        return f"{as_size(number(low))} to {as_size(number(high))}"
    if kind == "TIME":
        return f"{as_time(number(low))} to {as_time(number(high))}"
    if kind in ("COUNT", "AUTO"):
        return f"{number(low)} to {number(high)}"
    if kind == "CHOICE":
        return " or ".join(words.split("|"))
    if kind == "BOOL":
        return "yes or no"
    return f"at most {number(high)} bytes"


KIND = {"BYTES": "size", "TIME": "time", "COUNT": "number", "BOOL": "yes or no",
        "AUTO": "auto or a number", "STRING": "text", "CHOICE": "one of"}


def facts(row):
    """The line that must stand below .It Cm NAME."""
    _, _, kind, default, low, words, high, reload_, _ = row
    if default:
        default = f"default {default}"
    elif kind == "STRING" and number(low) > 0:
        default = "must be given"
    else:
        default = "default empty"
    if kind == "BOOL":
        what = "yes or no"
    elif kind == "CHOICE":
        what = bounds(kind, low, high, words)
    else:
        what = f"{KIND[kind]}, {bounds(kind, low, high, words)}"
    when = "reload" if reload_ == "HUP" else "restart"
    return f"({what}; {default}; {when})"


def check_options(rows):
    section, seen = None, {}
    lines = PAGE.read_text().splitlines()
    for at, line in enumerate(lines):
        if line.startswith(".Ss "):
            found = re.search(r"\[(\w+)", line)
            section = found.group(1) if found else None
        if line.startswith(".It Cm ") and section:
            seen[(section, line.split()[2])] = (at, lines[at + 1])
    for row in rows:
        key = (row[0], row[1])
        if key not in seen:
            yield f"{PAGE}: [{row[0]}] {row[1]} is missing"
            continue
        at, line = seen.pop(key)
        if line != facts(row):
            yield (f"{PAGE}:{at + 2}: [{row[0]}] {row[1]}: the line should "
                   f"be: {facts(row)}")
        if at + 2 >= len(lines) or lines[at + 2].startswith((".It", ".El")):
            yield f"{PAGE}:{at + 2}: [{row[0]}] {row[1]} is not explained"
    for section, name in seen:
        yield f"{PAGE}: [{section}] {name} is no option"


def check_pages():
    pages = sorted((TOP / "docs").glob("*.[158]"))
    for page in pages:
        done = subprocess.run([MANDOC, "-T", "lint", "-W", "warning", page],
                              capture_output=True, text=True)
        if done.returncode != 0:
            yield done.stdout.strip() or done.stderr.strip()


def main():
    if MANDOC == "no":
        print("mandoc is missing (Debian: mandoc)")
        return 1
    rows = read_rows()
    if "--print" in sys.argv:
        for row in rows:
            print(row[0], row[1], facts(row))
        return 0
    faults = list(check_options(rows)) + list(check_pages())
    for fault in faults:
        print(fault)
    print(f"{len(rows)} options, {len(faults)} faults")
    return 1 if faults else 0


sys.exit(main())
