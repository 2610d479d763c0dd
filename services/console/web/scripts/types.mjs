// src/api/schema.ts is made from the backend's document, openapi.json; this compares.
import { readFileSync } from "node:fs";
import openapi, { astToString } from "openapi-typescript";

const made = astToString(await openapi(new URL("../openapi.json", import.meta.url)));
const kept = readFileSync(new URL("../src/api/schema.ts", import.meta.url), "utf8");
if (!kept.endsWith(made.trimStart())) {
  console.error("src/api/schema.ts is not current: npm run types, then look at the difference and commit it");
  process.exit(1);
}
