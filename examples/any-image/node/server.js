// A service that knows nothing of Valerix but one address in its environment. /order asks the ledger and answers as it
// did; everything else is answered at once.
const http = require("node:http");

const ledger = process.env.VALERIX_TARGET_LEDGER_URL || "http://ledger";

const server = http.createServer(async (request, response) => {
  let status = 200;
  if (request.url === "/order") {
    try {
      const answer = await fetch(`${ledger}/charge`, { signal: AbortSignal.timeout(10_000) });
      await answer.arrayBuffer();
      status = answer.status;
    } catch {
      status = 502;
    }
  }
  response.writeHead(status, { "Content-Type": "text/plain" });
  response.end(`${status}\n`);
});

server.listen(8080, "0.0.0.0");
// The first process of a container has no default for this signal.
process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
