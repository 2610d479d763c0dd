// The page loads over a tunnel to a cluster: it stays small.
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const MOST = 250 * 1024;
const folder = new URL("../dist/assets/", import.meta.url);
const sizes = readdirSync(folder).map((name) => gzipSync(readFileSync(new URL(name, folder))).length);
const size = sizes.reduce((sum, size) => sum + size, 0);
console.log(`the page has ${(size / 1024).toFixed(0)} KiB, compressed; ${MOST / 1024} KiB are allowed`);
if (size > MOST) process.exit(1);
