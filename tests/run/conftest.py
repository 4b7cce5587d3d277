import os
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import certificate  # noqa: E402
import client  # noqa: E402
import harness  # noqa: E402
import origin as origins  # noqa: E402

LOG_SHOWN = 12000


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for server in getattr(item.module, "_servers", []):
            text = server.log_text(server.test_mark if hasattr(
                server, "test_mark") else 0)
            report.sections.append((f"log in {server.folder}",
                                    text[-LOG_SHOWN:]))


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "xdist_group(name): runs in one process with its like")
    config.addinivalue_line(
        "markers", "alone: measures times, or takes all of the processor, and "
        "does not run beside other tests")
    config.addinivalue_line(
        "markers", "transports(*names): the test runs over these only, "
        "instead of its file's TRANSPORTS")


def _transports_of(test):
    mark = test.definition.get_closest_marker("transports")
    return mark.args if mark is not None else \
        getattr(test.module, "TRANSPORTS", ())


def pytest_generate_tests(metafunc):
    """One body for every transport of the file's TRANSPORTS."""
    names = _transports_of(metafunc)
    if names and "over" in metafunc.fixturenames:
        metafunc.parametrize("over", names, indirect=True, scope="module")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """With pytest-xdist, --dist loadgroup: what shares a server stays in one
    process, everything else goes where there is time."""
    for item in items:
        if {"shared_origin", "make_shared"} & set(item.fixturenames):
            params = getattr(item, "callspec", None)
            over = params.params.get("over", "") if params else ""
            item.add_marker(pytest.mark.xdist_group(
                f"{item.module.__name__}-{over}"))


@pytest.fixture(scope="module")
def over(request):
    """The transport: how clients of this test talk to the server; HTTP/1.1 in
    clear when its file does not say anything."""
    name = getattr(request, "param", "h1")
    if name in client.ENCRYPTED:
        certificate.session()  # before a test forks
    return name


@pytest.fixture
def origin():
    with origins.Origin() as one:
        yield one


class Factory:
    """Makes servers for one test, or for all of a file."""

    def __init__(self, request, folder, transport):
        self.request = request
        self.folder = folder
        self.transport = transport
        self.made = []
        self.known = request.module.__dict__.setdefault("_servers", [])

    def __call__(self, origin=None, **sections):
        sections.setdefault("transport", self.transport)
        server = harness.Reelcache(
            os.path.join(self.folder, str(len(self.made))), origin, **sections)
        self.made.append(server)
        self.known.append(server)
        return server

    def close(self):
        faults = []
        for server in self.made:
            try:
                server.close()
            except AssertionError as fault:
                faults.append(str(fault))
            faults += complaints(server)
            self.known.remove(server)
        assert not faults, "\n".join(faults)


def complaints(server):
    """What must never be, whatever a test does."""
    found = [f"sanitizer: {text}" for text in server.reports_found()]
    found += [line for line in server.log_text().splitlines()
              if "ev=must-failed" in line]
    try:
        with open(os.path.join(server.folder, "stderr")) as f:
            found += [line for line in f if "ev=must-failed" in line or
                      "Sanitizer" in line]
    except OSError:
        pass
    return found


def _folder():
    # chunk files on a disk, and short enough for a socket's path
    return tempfile.mkdtemp(prefix="reel-run-")


def _factory(request, over):
    folder = _folder()
    factory = Factory(request, folder, over)
    try:
        yield factory
        factory.close()
    finally:
        for server in factory.made:
            if server.process is not None and server.process.poll() is None:
                server.kill_all()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make(request, over):
    """make(origin, main={...}, ...): a server, not started."""
    yield from _factory(request, over)


@pytest.fixture(scope="module")
def make_shared(request, over):
    yield from _factory(request, over)


@pytest.fixture(scope="module")
def shared_origin():
    with origins.Origin() as one:
        yield one


@pytest.fixture(scope="module")
def shared_server(make_shared, shared_origin, request):
    """One server for the tests of a file that need nothing special; the
    file's CONF says what is special."""
    conf = getattr(request.module, "CONF", {})
    return make_shared(shared_origin, **conf).start()


@pytest.fixture
def server(shared_server, request):
    shared_server.test_mark = shared_server.mark()
    yield shared_server
    assert shared_server.process.poll() is None, "reelcache has ended"
    found = complaints(shared_server)
    assert not found, "\n".join(found)


@pytest.fixture
def thing(shared_origin, request):
    """thing(size, ...): an object with a name of its own."""
    made = []

    def add(size, **settings):
        number = len(shared_origin.objects)
        name = request.node.name.split("[")[0].replace("_", "-")
        obj = shared_origin.add(f"{name}-{number}", size, **settings)
        made.append(obj)
        return obj

    return add
