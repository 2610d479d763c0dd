// What stands between a console and the API server of a cluster: there the states arise in which a page has to say something.
import { execFileSync } from "node:child_process";
import { createServer } from "node:http";
import { Agent, request as ask } from "node:https";

const decoded = (text) => text && Buffer.from(text, "base64");

/** The cluster of a kubeconfig's current context, and by what its user is known there. */
function cluster(kubeconfig) {
  const text = execFileSync(process.env.KUBECTL ?? "kubectl", ["config", "view", "--raw", "--minify", "-o", "json", ...(kubeconfig ? ["--kubeconfig", kubeconfig] : [])]);
  const { clusters, users } = JSON.parse(text);
  const [{ cluster }, { user }] = [clusters[0], users[0]];
  const ca = decoded(cluster["certificate-authority-data"]);
  return { server: new URL(cluster.server), ca, cert: decoded(user["client-certificate-data"]), key: decoded(user["client-key-data"]), token: user.token };
}

/**
 * Listens for a console. `be` sets what it does: `open` passes everything on, `silent` answers nothing and tells nothing more
 * of what is watched, `frozen` shows every Lease as it was. Who brings a token is known by that, everybody else by the kubeconfig.
 */
export async function stand(kubeconfig) {
  const { server, ca, cert, key, token } = cluster(kubeconfig);
  const [known, nobody] = [new Agent({ ca, cert, key, keepAlive: true }), new Agent({ ca, keepAlive: true })];
  const leases = new Map();
  let mode = "open";
  const front = createServer((request, response) => {
    const lease = request.method === "GET" && /\/leases\/[^/?]+$/.test(request.url);
    if (mode === "silent") return;
    if (mode === "frozen" && lease && leases.has(request.url)) return response.writeHead(200, { "content-type": "application/json" }).end(leases.get(request.url));
    const own = request.headers.authorization !== undefined;
    const headers = { ...request.headers, host: server.host, ...(!own && token && { authorization: `Bearer ${token}` }) };
    // A Lease is kept as it is read: not packed, and as JSON.
    if (lease) Object.assign(headers, { accept: "application/json", "accept-encoding": "identity" });
    const passed = ask({ host: server.hostname, port: server.port || 443, path: request.url, method: request.method, headers, agent: own ? nobody : known }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      const parts = [];
      answer.on("data", (part) => {
        if (lease) parts.push(part);
        if (mode !== "silent") response.write(part);
      });
      answer.on("end", () => {
        if (lease && answer.statusCode === 200) leases.set(request.url, Buffer.concat(parts));
        if (mode !== "silent") response.end();
      });
    });
    passed.on("error", () => response.destroy());
    response.on("close", () => passed.destroy());
    request.pipe(passed);
  });
  const seam = {
    be(next) {
      // What was kept back in the midst of a line is not made good by what follows.
      if (mode === "silent") front.closeAllConnections();
      mode = next;
    },
  };
  await new Promise((done) => front.listen(0, "127.0.0.1", done));
  seam.port = front.address().port;
  seam.close = () => {
    front.closeAllConnections();
    front.close();
    for (const agent of [known, nobody]) agent.destroy();
  };
  /** What the API server says to the user of the kubeconfig. */
  seam.ask = async (path, body) => {
    const answer = await fetch(`http://127.0.0.1:${seam.port}${path}`, body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  };
  return seam;
}
