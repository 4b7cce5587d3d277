"""An authority that only the tests of one process know, and a certificate of
a server by it."""
import atexit
import functools
import os
import shutil
import ssl
import subprocess
import tempfile

NAMES = "DNS:localhost,DNS:reel.test,IP:127.0.0.1"
SERVER = "reel.test"  # whom clients want to talk to


def _openssl(*args):
    subprocess.run(["openssl", *args], check=True, stdin=subprocess.DEVNULL,
                   capture_output=True)


class Certificate:
    """cert, key: PEM files.  subject: of a server; without one it is an
    authority.  A server's without an authority is signed by itself."""

    def __init__(self, folder, name, subject=None, authority=None):
        self.cert = os.path.join(folder, f"{name}.crt")
        self.key = os.path.join(folder, f"{name}.key")
        if subject is None:
            fields = ["basicConstraints=critical,CA:TRUE",
                      "keyUsage=critical,keyCertSign"]
        else:
            fields = [f"subjectAltName={subject}"]
        by = []
        if authority is not None:
            by = ["-CA", authority.cert, "-CAkey", authority.key]
            fields += ["basicConstraints=critical,CA:FALSE",
                       "extendedKeyUsage=serverAuth"]
        _openssl("req", "-x509", "-nodes", "-days", "2", "-newkey", "ec",
                 "-pkeyopt", "ec_paramgen_curve:prime256v1",
                 "-subj", f"/CN=reelcache {name}", *by,
                 *(arg for field in fields for arg in ("-addext", field)),
                 "-keyout", self.key, "-out", self.cert)


class Pair:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="reel-cert-")
        atexit.register(shutil.rmtree, self.folder, True)
        self.authority = Certificate(self.folder, "authority")
        self.server = Certificate(self.folder, "server", NAMES,
                                  self.authority)


@functools.cache
def session():
    """Made when first asked for."""
    return Pair()


@functools.cache
def context(protocol):
    """A client's, which checks the chain and offers one protocol."""
    tls = ssl.create_default_context(cafile=session().authority.cert)
    tls.set_alpn_protocols([protocol])
    # an end without close_notify is an error, not an end
    tls.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return tls
