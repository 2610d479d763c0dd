// The console's own program before an API server on loopback.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A port that nobody has. */
export const free = () =>
  new Promise((done) => {
    const taken = createServer().listen(0, "127.0.0.1", () => {
      const { port } = taken.address();
      taken.close(() => done(port));
    });
  });

/**
 * Starts `program`, which finds its API server at `api`, a port of loopback. `ended` says in words that it is over, and `end`
 * ends it.
 */
export async function begin(program, api, settings = {}) {
  const folder = mkdtempSync(join(tmpdir(), "valerix-console-"));
  const kubeconfig = join(folder, "kubeconfig");
  writeFileSync(kubeconfig, JSON.stringify({ apiVersion: "v1", kind: "Config", "current-context": "c", clusters: [{ name: "c", cluster: { server: `http://127.0.0.1:${api}` } }], users: [{ name: "c", user: {} }], contexts: [{ name: "c", context: { cluster: "c", user: "c" } }] }));
  const [listen, report] = [settings.port ?? (await free()), await free()];
  // The heap as the chart sets it.
  const heap = { MALLOC_ARENA_MAX: "1", MALLOC_TRIM_THRESHOLD_: "131072" };
  const own = { ...heap, KUBECONFIG: kubeconfig, LISTEN_ADDRESS: `127.0.0.1:${listen}`, VALERIX_REPORT_PORT: String(report), VALERIX_STATE_DIR: folder, VALERIX_POLICY_DIR: folder, RUST_LOG: "warn", ...settings.env };
  const started = spawn(program, [], { env: { PATH: process.env.PATH, ...own }, stdio: ["ignore", "ignore", "inherit"] });
  const running = { url: `http://127.0.0.1:${listen}`, port: listen, pid: started.pid, ended: undefined };
  started.on("error", (error) => (running.ended = `failed to start ${program}: ${error.message}`));
  started.on("exit", (code) => (running.ended ??= `${program} ended with ${code}`));
  running.end = () => {
    started.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  };
  return running;
}
