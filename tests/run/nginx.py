"""A real nginx, as an origin and as a server to clients of the tests."""
import os
import shutil
import signal
import socket
import subprocess

import harness

CONF = """
{user}
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{
    log_format short
        '$server_protocol $status $request_method $uri $bytes_sent';
    access_log {folder}/access.log short;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type video/mp4;
    root {folder}/root;
{servers}
}}
"""


class Nginx:
    """In the foreground, with a folder of its own; servers: text of the
    server blocks, which listen on ports."""

    def __init__(self, folder, servers, ports):
        self.folder = str(folder)
        self.ports = ports
        os.makedirs(os.path.join(self.folder, "root"))
        self.conf = os.path.join(self.folder, "nginx.conf")
        with open(self.conf, "w") as f:
            f.write(CONF.format(
                folder=self.folder, servers=servers,
                user="user root;" if os.geteuid() == 0 else ""))
        self.process = None

    def add_file(self, name, data):
        path = os.path.join(self.folder, "root", name)
        with open(path, "wb") as f:
            f.write(data)
        os.utime(path, (1.6e9, 1.6e9))  # old, so fresh for long

    def __enter__(self):
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        with open(os.path.join(self.folder, "output"), "wb") as output:
            self.process = subprocess.Popen(
                [program, "-p", self.folder, "-c", self.conf],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            harness.until(self.listens, "nginx listens")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        pids = [self.process.pid, *harness.children_of(self.process.pid)]
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait(10)

    def read(self, name):
        try:
            with open(os.path.join(self.folder, name)) as f:
                return f.read()
        except OSError:
            return ""

    def listens(self):
        assert self.process.poll() is None, \
            self.read("output") + self.read("error.log")
        try:
            for port in self.ports:
                socket.create_connection(("127.0.0.1", port), 2).close()
            return True
        except OSError:
            return False

    def _entries(self):
        lines = self.read("access.log").splitlines()
        return [line.split() for line in lines if len(line.split()) == 5]

    def asked(self):
        """[(protocol, status, method, path)] of the requests that ended."""
        return [tuple(entry[:4]) for entry in self._entries()]

    def sent(self, path):
        """[bytes that were sent, heads included] of those for a path."""
        return [int(count) for *_, asked, count in self._entries()
                if asked == path]
