"""For tests of TLS listeners: authorities and certificates, and a client that
decides which bytes make a record and a segment, and sees how a connection
ends."""
import os
import socket
import ssl
import subprocess
import time

import client

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = {"TLSv1.2": V12, "TLSv1.3": V13}
KINDS = {"ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
         "rsa": ["-newkey", "rsa:2048"]}


def openssl(*args, **options):
    return subprocess.run(["openssl", *args], check=True, timeout=60,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          **options)


class Certificate:
    """cert: its PEM file, with the chain behind it; key: another one."""

    def __init__(self, folder, name, by, kind, extensions):
        self.name = name
        self.cert = os.path.join(folder, f"{name}.crt")
        self.key = os.path.join(folder, f"{name}.key")
        args = ["req", "-x509", "-nodes", "-days", "3", *KINDS[kind],
                "-subj", f"/CN={name}", "-keyout", self.key,
                "-out", self.cert]
        for extension in extensions:
            args += ["-addext", extension]
        if by is not None:
            args += ["-CA", by.cert, "-CAkey", by.key]
        openssl(*args)
        with open(self.cert) as f:
            self.pem = f.read()
        self.der = ssl.PEM_cert_to_DER_cert(self.pem)


class Authority(Certificate):
    def __init__(self, folder, name, by=None):
        super().__init__(folder, name, by, "ec",
                         ["basicConstraints=critical,CA:TRUE",
                          "keyUsage=keyCertSign"])
        self.folder = folder
        self.is_root = by is None

    def issue(self, name, *hosts, kind="ec"):
        """A server's.  One of an intermediate has that behind it."""
        made = Certificate(
            self.folder, name, self, kind,
            ["basicConstraints=CA:FALSE", "subjectAltName=" +
             ",".join(f"DNS:{host}" for host in hosts)])
        if not self.is_root:
            with open(made.cert, "a") as f:
                f.write(self.pem)
        return made


def context(root, version=None, alpn=None, ciphers=None):
    """A client's.  version: only that one."""
    ctx = ssl.create_default_context(cafile=root.cert)
    # an end without close_notify is an error
    ctx.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    if version is not None:
        ctx.minimum_version = ctx.maximum_version = version
    if alpn is not None:
        ctx.set_alpn_protocols(alpn)
    if ciphers is not None:
        ctx.set_ciphers(ciphers)
    return ctx


class Peer(client.Connection):
    """A client with HTTP/1.1 over TLS.

    piece: most bytes of one segment.  ended: how the other side ended:
    None (not yet), "notified" (with close_notify), "cut" or "reset"."""

    def __init__(self, port, ctx, name="a.test", session=None, piece=None,
                 receive_buffer=None, timeout=client.TIMEOUT):
        self.timeout = timeout
        self.piece = piece
        self.ended = None
        self.orderly = True
        self.pauses_from = 0.0
        self.buffer = bytearray()
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                                 receive_buffer)
        self.sock.settimeout(timeout)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self.sock.connect(("127.0.0.1", port))
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.tls = ctx.wrap_bio(self.incoming, self.outgoing,
                                    server_hostname=name, session=session)
            self._shake_hands()
        except BaseException:
            self.sock.close()
            raise

    def _shake_hands(self):
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._pull()
        self._flush()

    def _flush(self):
        data = self.outgoing.read()
        step = self.piece or len(data) or 1
        for at in range(0, len(data), step):
            self.sock.sendall(data[at:at + step])

    def _pull(self):
        try:
            got = self.sock.recv(256 * 1024)
        except (ConnectionResetError, BrokenPipeError):
            self.ended = "reset"
            got = b""
        if got:
            self.incoming.write(got)
        else:
            self.incoming.write_eof()

    def send(self, data, record=16384):
        """record: bytes of plain text in each."""
        if isinstance(data, str):
            data = data.encode("latin-1")
        for at in range(0, len(data), record):
            self.tls.write(data[at:at + record])
        self.asked_at = time.monotonic()
        self._flush()

    def _fill(self):
        while self.ended is None:
            try:
                got = self.tls.read(256 * 1024)
                if got:
                    self.buffer += got
                    return True
                self.ended = "notified"
            except ssl.SSLWantReadError:
                self._pull()
            except ssl.SSLError as fault:
                if not isinstance(fault, ssl.SSLEOFError) and \
                        fault.reason != "UNEXPECTED_EOF_WHILE_READING":
                    raise
                self.ended = self.ended or "cut"
        return False

    def notify(self):
        """Sends close_notify."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self._flush()

    def end(self):
        """Reads until the other side ends; how."""
        while self._fill():
            self.buffer.clear()
        return self.ended

    @property
    def presented(self):
        """Whose certificate it was, in DER."""
        return self.tls.getpeercert(binary_form=True)
