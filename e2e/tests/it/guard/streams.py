# A service some of whose answers take long: /events tells something five times a second until the service is told to end,
# and then says so and is over; /report takes five seconds more than that. Everything else is answered at once.
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ending = threading.Event()
under_way = set()


def events():
    while not ending.wait(0.2):
        yield "data: well\n\n"
    yield "data: the end\n\n"


def report():
    while not ending.wait(0.2):
        yield "a line\n"
    for _ in range(25):
        time.sleep(0.2)
        yield "a line\n"
    yield "the end\n"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        long = {"/events": ("text/event-stream", events), "/report": ("text/plain", report)}.get(self.path)
        if long:
            under_way.add(self)
            try:
                self.tell(*long)
            finally:
                under_way.discard(self)
            return
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def tell(self, media_type, pieces):
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces():
            self.wfile.write(f"{len(piece):x}\r\n{piece}\r\n".encode())
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


def end(*_):
    ending.set()
    threading.Thread(target=server.shutdown).start()


server = ThreadingHTTPServer(("0.0.0.0", 8080), Handler)
# The first process of a container has no default for this signal.
signal.signal(signal.SIGTERM, end)
server.serve_forever()
while under_way:
    time.sleep(0.05)
