import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [react()],
  // Inlined files would need an exception from the content security policy.
  build: { assetsInlineLimit: 0, target: "es2022", reportCompressedSize: false },
  server: { proxy: { "/api": process.env.CONSOLE_URL ?? "http://127.0.0.1:8080" } },
  test: { environment: "jsdom", include: ["src/**/*.test.{ts,tsx}"], restoreMocks: true, testTimeout: 30_000 },
});
