# A service that knows nothing of Valerix but one address in its environment. /order asks the ledger and answers as it
# did, /ping asks a Redis, and everything else is answered at once.
import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LEDGER = os.environ.get("VALERIX_TARGET_LEDGER_URL", "http://ledger")
CACHE = os.environ.get("VALERIX_TARGET_CACHE_ADDR", "cache:6379")


def charge():
    try:
        with urllib.request.urlopen(LEDGER + "/charge", timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 502


def ping():
    host, port = CACHE.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(b"PING\r\n")
            return 200 if connection.recv(64).startswith(b"+PONG") else 503
    except OSError:
        return 503


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status = {"/order": charge, "/ping": ping}.get(self.path, lambda: 200)()
        body = f"{status}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("0.0.0.0", 8080), Handler)
# The first process of a container has no default for this signal.
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
