# A ledger that is not well at first: the first who asks for a statement is told so, and whoever asks after that gets it, with
# the name by which he was asked and how often.
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

asked = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status, body = 200, b""
        if self.path == "/statement":
            asked.append(self.headers.get("Valerix-Client", "somebody"))
            status = 503 if len(asked) == 1 else 200
            body = f"asked {len(asked)} times, by {asked[-1]}".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("0.0.0.0", 8080), Handler)
# The first process of a container has no default for this signal.
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
