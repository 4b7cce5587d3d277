"""The command line, and what is said of a wrong configuration."""
import os
import re

import pytest

import harness

GOOD = """[main]
admin_socket = {folder}/admin.sock
[cache]
path = {folder}/cache
[listen:main]
address = 127.0.0.1:{port}
[source:film]
type = template
url = http://origin.test/{{id}}
"""


@pytest.fixture
def run(tmp_path):
    report = str(tmp_path / "report")

    def call(*args, **options):
        done = harness.run(*map(str, args), report=report, **options)
        reports = [p for p in os.listdir(tmp_path) if p.startswith("report")]
        assert reports == [], (tmp_path / reports[0]).read_text()
        return done
    return call


@pytest.fixture
def write(tmp_path):
    def put(text):
        path = tmp_path / "reelcache.ini"
        if isinstance(text, str):
            text = text.encode()
        path.write_bytes(text)
        return path
    return put


def good(tmp_path):
    return GOOD.format(folder=tmp_path, port=harness.free_port())


def test_version_and_help(run):
    for option in ("-V", "--version"):
        done = run(option)
        assert done.returncode == 0
        assert re.fullmatch(r"reelcache \d+\.\d+\.\d+\S*\n"
                            r"TLS: OpenSSL \d+\.\d+\.\d+\S*, "
                            r"kernel TLS: (yes|no)\n", done.stdout)
    for option in ("-h", "--help"):
        done = run(option)
        assert done.returncode == 0 and "--dump-config" in done.stdout


@pytest.mark.parametrize("args", [
    ["-x"], ["--nonsense"], ["extra"], ["-c"], ["-t", "extra"]])
def test_wrong_usage(run, args):
    done = run(*args)
    assert done.returncode == 2
    assert "usage" in done.stderr and done.stdout == ""


def test_output_that_cannot_be_written(run):
    import subprocess
    with open("/dev/full", "w") as full:
        done = subprocess.run([harness.reelcache_bin(), "-V"], stdout=full,
                              stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and "write" in done.stderr


def test_good_file(run, write, tmp_path):
    path = write(good(tmp_path))
    done = run("-c", path, "-t")
    assert done.returncode == 0, done.stderr
    assert "ok" in done.stdout
    assert not (tmp_path / "cache").exists()


def test_dump_is_read_back_as_the_same(run, write, tmp_path):
    path = write(good(tmp_path))
    first = run("-c", path, "--dump-config")
    assert first.returncode == 0
    assert "idle_timeout" in first.stdout and "[source:film]" in first.stdout
    again = run("-c", write(first.stdout), "--dump-config")
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout


def test_sample_is_read(run, write, tmp_path):
    sample = run("--print-sample")
    assert sample.returncode == 0
    text = sample.stdout
    done = run("-c", write(text), "--dump-config")
    assert done.returncode == 0, done.stderr


def test_no_file(run, tmp_path):
    done = run("-c", tmp_path / "none.ini", "-t")
    assert done.returncode == 78
    assert "none.ini" in done.stderr
    assert run("-c", tmp_path, "-t").returncode == 78


@pytest.mark.parametrize("text,line", [
    ("[nonsense]\n", 1),
    ("[main]\nworker = 3\n", 2),
    ("x = 1\n", 1),
    ("[main]\n\n; a comment\nworkers = many\n", 4),
    ("[main]\nworkers = -1\n", 2),
    ("[main]\nworkers = 33\n", 2),
    ("[main]\nworkers = 2 # two\n", 2),
    ("[main]\nworkers = 2\nworkers = 3\n", 3),
    ("[main]\n[main]\n", 2),
    ("[main]\nlog_level = loud\n", 2),
    ("[main]\ndebug_headers = maybe\n", 2),
    ("[main]\njust text\n", 2),
    ("[main\n", 1),
    ("[main]\nworkers\n", 2),
    ("[main]\nworkers =\n", 2),
    ("[cache]\nsize = 15M\n", 2),
    ("[cache]\nsize = 99999999999999999999\n", 2),
    ("[cache]\nsize = 5X\n", 2),
    ("[cache]\nsize = 1.5G\n", 2),
    ("[cache]\nchunk = 65M\n", 2),
    ("[cache]\non_abandon = never\n", 2),
    ("[cache]\npath =\n", 2),
    ("[http]\nhead_timeout = 5\n", 2),
    ("[http]\nhead_timeout = 50ms\n", 2),
    ("[http]\nhead_timeout = 5 s\n", 2),
    ("[http]\nmax_ranges = 0\n", 2),
    ("[listen:a]\naddress = 127.0.0.1\n", 2),
    ("[listen:a]\naddress = nowhere:80\n", 2),
    ("[listen:a]\naddress = 127.0.0.1:99999\n", 2),
    ("[listen:a]\naddress = 127.0.0.1:0x50\n", 2),
    ("[listen]\naddress = 127.0.0.1:80\n", 1),
    ("[main:x]\nworkers = 1\n", 1),
    ("[source:a]\ntype = magic\n", 2),
    ("[source:a]\ntype = template\n", 1),
    ("[source:a]\nurl = ftp://a/{id}\n", 2),
    ("[source:a]\nurl = http://a/b\n", 2),
    ("[source:a]\nurl = {id}\n", 2),
    ("[source:a]\nurl = http://{id}\n", 2),
    ("[source:a]\nurl = http://a/{id}\n[source:a]\nurl = http://b/{id}\n", 3),
    ("[source:a b]\nurl = http://a/{id}\n", 1),
    ("[source:]\nurl = http://a/{id}\n", 1),
    ("[main]\nworkers = 2\n\0\n", 3),
    (b"[main]\nuser = \x01\n", 2),
    ("[main]\nuser = " + "x" * 5000 + "\n", 2),
], ids=lambda v: None if isinstance(v, int) else repr(v)[:50])
def test_faults_name_their_line(run, write, text, line):
    path = write(text)
    for args in (["-t"], ["--dump-config"], []):
        done = run("-c", path, *args)
        assert done.returncode == 78, done.stdout
        assert f"{path}:{line}:" in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1


def test_no_source_at_all(run, write):
    done = run("-c", write("[main]\nworkers = 1\n"))
    assert done.returncode == 78, done.stderr
    assert "source" in done.stderr


@pytest.mark.parametrize("what", ["user", "log", "folder"])
def test_test_looks_at_what_the_file_names(run, write, tmp_path, what):
    extra = {"user": "user = no-such-user-at-all",
             "log": "error_log = /nowhere/at/all.log",
             "folder": ""}[what]
    text = good(tmp_path).replace("[cache]", extra + "\n[cache]")
    if what == "folder":
        (tmp_path / "file").write_text("")
        text = text.replace(f"{tmp_path}/cache", f"{tmp_path}/file/cache")
    done = run("-c", write(text), "-t")
    assert done.returncode in (1, 78)
    assert {"user": "no-such-user", "log": "/nowhere",
            "folder": "file/cache"}[what] in done.stderr


def test_windows_line_ends_are_fine_or_named(run, write, tmp_path):
    done = run("-c", write(good(tmp_path).replace("\n", "\r\n")), "-t")
    assert done.returncode == 0 or re.search(r"\.ini:\d+:", done.stderr)
