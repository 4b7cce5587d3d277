#!/usr/bin/env python3
"""Counts test cases: count_results.py BUILD_FOLDER|JUNIT.xml ...

For a build folder: the cmocka cases in the logs of `make check`, and one for
each test of another kind.  A skipped case counts as failed: it proved nothing.
Prints the names of what failed, then "PASSED FAILED".
"""
import pathlib
import re
import sys
import xml.etree.ElementTree as ET


def count_log(trs):
    """One test program of `make check`."""
    result = re.search(r"^:test-result: (\w+)", trs.read_text(), re.M)
    good = result is not None and result.group(1) == "PASS"
    log = trs.with_suffix(".log")
    text = log.read_text(errors="replace") if log.exists() else ""
    passed = len(re.findall(r"^\[ +OK +\] ", text, re.M))
    if good:
        return max(passed, 1), []
    failed = re.findall(r"^\[ +(?:FAILED|ERROR|SKIPPED) +\] (\w+)$", text, re.M)
    return passed, sorted(set(failed)) or ["did not finish"]


def count_build(folder):
    passed, failed = 0, []
    found = sorted(folder.glob("tests/**/*.trs"))
    if not found:
        return 0, [f"{folder}: no test was run"]
    for trs in found:
        good, bad = count_log(trs)
        passed += good
        failed += [f"{trs.relative_to(folder).with_suffix('')}: {name}"
                   for name in bad]
    return passed, failed


def count_junit(path):
    passed, failed = 0, []
    try:
        cases = list(ET.parse(path).getroot().iter("testcase"))
    except (OSError, ET.ParseError) as fault:
        return 0, [f"{path}: {fault}"]
    for case in cases:
        if any(case.find(x) is not None for x in ("failure", "error", "skipped")):
            failed.append(f"{case.get('classname')}: {case.get('name')}")
        else:
            passed += 1
    if not cases:
        failed.append(f"{path}: no test was run")
    return passed, failed


def main():
    passed, failed = 0, []
    for name in sys.argv[1:]:
        path = pathlib.Path(name)
        good, bad = count_build(path) if path.is_dir() else count_junit(path)
        passed += good
        failed += bad
    for name in failed:
        print(f"FAILED {name}")
    print(passed, len(failed))


main()
