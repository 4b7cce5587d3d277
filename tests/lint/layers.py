#!/usr/bin/env python3
"""Checks every #include of src/ against src/LAYERS.

A folder may include itself and the folders of its own line and of the lines
above; the folders of the line of processes never include each other.  The
libraries that one folder keeps for itself are checked as well.
"""
import os
import pathlib
import re
import sys

SRC = pathlib.Path(os.environ.get("REEL_SRCDIR", ".")) / "src"

# <header>: the folders that may see it
KEPT = {
    "lmdb.h": {"store"},
    "ini.h": {"conf"},
    "json-c/json.h": {"ctl", "resolver", "worker"},
    "wslay/wslay.h": {"http"},
    "libdeflate.h": {"store", "http", "util"},
}
CURL = {"upstream", "ctl"}


def read_layers():
    """folder -> line number, and the folders that are processes."""
    level, processes = {}, set()
    lines = (SRC / "LAYERS").read_text().splitlines()
    lines = [l.split() for l in lines if l.strip() and not l.startswith("#")]
    for number, folders in enumerate(lines):
        for folder in folders:
            level[folder] = number
        if "master" in folders:
            processes = set(folders)
    return level, processes


def folder_of(path):
    parts = path.relative_to(SRC).parts
    return parts[0] if len(parts) > 1 else "main"


def check(path, level, processes):
    here = folder_of(path)
    if here not in level:
        yield f"{path}: folder {here} is not in src/LAYERS"
        return
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
        if not found:
            continue
        where, name = f"{path}:{number}", found.group(2)
        if found.group(1) == "<":
            if name in KEPT and here not in KEPT[name]:
                yield f"{where}: <{name}> is for {sorted(KEPT[name])} only"
            if name.startswith("curl/") and here not in CURL:
                yield f"{where}: <{name}> is for {sorted(CURL)} only"
            continue
        there = name.split("/")[0] if "/" in name else None
        if there is None or not (SRC / name).exists():
            yield f'{where}: "{name}" is not a file below src/'
        elif there not in level:
            yield f"{where}: folder {there} is not in src/LAYERS"
        elif level[there] > level[here]:
            yield f"{where}: {here} must not include {there} (a layer above)"
        elif there != here and {there, here} <= processes:
            yield f"{where}: processes {here} and {there} include each other"


def main():
    level, processes = read_layers()
    files = sorted(p for p in SRC.rglob("*") if p.suffix in (".c", ".h", ".def"))
    faults = [f for path in files for f in check(path, level, processes)]
    for fault in faults:
        print(fault)
    print(f"{len(files)} files, {len(faults)} faults")
    return 1 if faults or not files or not processes else 0


sys.exit(main())
