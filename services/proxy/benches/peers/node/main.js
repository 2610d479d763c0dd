// The proxy that Node services put in front of others. `plain`: http-proxy alone. `stack`: express, a token, a limit for
// each client, a breaker for each service. Its tokens are of a shared secret, which costs less to verify than a key pair.
// node main.js plain|stack <port> <backend>
import http from "node:http";
import express from "express";
import { rateLimit } from "express-rate-limit";
import httpProxy from "http-proxy";
import jwt from "jsonwebtoken";
import CircuitBreaker from "opossum";

const [kind, port, backend] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 256 });
const proxy = httpProxy.createProxyServer({ target: `http://${backend}`, agent });
const server = kind === "plain" ? http.createServer(pass) : http.createServer(stack());
server.keepAliveTimeout = 60_000;
server.listen(Number(port), "127.0.0.1");

function pass(request, response) {
  proxy.web(request, response, {}, () => response.writeHead(502).end());
}

function stack() {
  const secret = "a secret of which everybody knows";
  const token = jwt.sign({ sub: "user", aud: "shop", iss: "auth" }, secret, { expiresIn: "1h" });
  const breaker = new CircuitBreaker(
    (request, response) =>
      new Promise((resolve, reject) => {
        response.on("finish", resolve);
        proxy.web(request, response, {}, reject);
      }),
    { timeout: 10_000, errorThresholdPercentage: 50, volumeThreshold: 20 },
  );
  breaker.fallback((_request, response) => response.headersSent || response.status(503).end());
  const app = express();
  app.disable("x-powered-by");
  app.use("/small", rateLimit({ windowMs: 10_000, limit: 100_000_000, standardHeaders: true, legacyHeaders: false }));
  app.use("/small", (request, response, next) => {
    // Whoever asks has a token of another kind: the one that is verified here is as long.
    if (!request.headers.authorization) return response.status(401).end();
    jwt.verify(token, secret, { audience: "shop", issuer: "auth" });
    next();
  });
  app.use((request, response) => breaker.fire(request, response).catch(() => {}));
  return app;
}
