import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, cleanup, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Message } from "../api/types";
import { SESSION, service, streams } from "../testing";
import { GATHER, LiveProvider, useLive } from "./live";

vi.mock("uplot", () => ({ default: class {} }));

/** The browser's end of the stream. */
class Source {
  static all: Source[] = [];
  static get last(): Source {
    return Source.all.at(-1) as Source;
  }
  onmessage: ((event: { data: string }) => void) | null = null;
  onerror: (() => void) | null = null;
  closed = false;
  constructor(readonly url: string) {
    Source.all.push(this);
  }
  close() {
    this.closed = true;
  }
  say(message: Message) {
    act(() => this.onmessage?.({ data: JSON.stringify(message) }));
  }
}

const now = () => new Date().toISOString();
const snapshot = (...names: string[]): Message => ({
  type: "snapshot",
  objects: names.map((name) => service({ name })),
  vitals: [],
  streams: streams(),
  operatorSilence: null,
  now: now(),
});
const heartbeat = (): Message => ({ type: "heartbeat", now: now(), streams: streams(), operatorSilence: null });

let drawn = 0;

function Probe() {
  drawn += 1;
  const { known, connection, lostAt } = useLive();
  return (
    <p role="status">
      {connection} {lostAt === null ? "" : new Date(lostAt).toISOString()} {[...known.objects.keys()].join(" ")}
    </p>
  );
}

const told = () => screen.getByRole("status").textContent ?? "";
const pass = (milliseconds: number) => act(() => vi.advanceTimersByTimeAsync(milliseconds));

beforeEach(() => {
  Source.all = [];
  vi.useFakeTimers({ now: Date.parse("2026-11-27T10:00:00Z") });
  vi.stubGlobal("EventSource", Source);
  vi.stubGlobal("fetch", async () => new Response(JSON.stringify(SESSION)));
});
afterEach(() => {
  cleanup();
  vi.useRealTimers();
});

async function begin() {
  render(
    <QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}>
      <LiveProvider>
        <Probe />
      </LiveProvider>
    </QueryClientProvider>,
  );
  await pass(10);
  Source.last.say(snapshot("order"));
  expect(told()).toContain("live");
}

describe("the stream", () => {
  it("is lost within five seconds of the last word, and since then", async () => {
    await begin();
    await pass(2_000);
    Source.last.say(heartbeat());
    const last = now();
    await pass(4_400);
    expect(told()).toContain("live");
    await pass(600);
    expect(told()).toContain(`lost ${last}`);
    expect(told()).toContain("ResilientService/shop/order");
  });

  it("is lost at once when the browser says so, and asked for anew every two seconds", async () => {
    await begin();
    act(() => Source.last.onerror?.());
    expect(told()).toContain("lost");
    expect(Source.all[0]?.closed).toBe(true);
    await pass(2_000);
    expect(Source.all).toHaveLength(2);
    act(() => Source.last.onerror?.());
    await pass(2_000);
    expect(Source.all).toHaveLength(3);
    expect(told()).toContain("2026-11-27T10:00:00.010Z");
  });

  it("forgets what is gone once it is back", async () => {
    await begin();
    act(() => Source.last.onerror?.());
    await pass(2_000);
    Source.last.say(snapshot("payment"));
    expect(told()).toContain("live");
    expect(told()).toContain("payment");
    expect(told()).not.toContain("order");
  });

  it("is not that of an earlier attempt", async () => {
    await begin();
    const first = Source.last;
    act(() => first.onerror?.());
    await pass(2_000);
    Source.last.say(snapshot("payment"));
    first.say(snapshot("ghost"));
    expect(told()).not.toContain("ghost");
  });

  it("shows a thousand changes as one picture, and the first after a silence at once", async () => {
    await begin();
    await pass(200);
    const pictures = drawn;
    for (let number = 0; number < 900; number += 1) Source.last.say({ type: "upserted", object: service({ name: `s-${number}` }) });
    expect(told()).toContain("s-0");
    expect(told()).not.toContain("s-899");
    await pass(GATHER);
    expect(told()).toContain("s-899");
    expect(drawn - pictures).toBeLessThanOrEqual(4);
  });

  it("keeps no more than a thousand messages for a page whose timers sleep", async () => {
    await begin();
    await pass(200);
    // No timer is due meanwhile, as in a page in the background.
    for (let number = 0; number < 1_500; number += 1) Source.last.say({ type: "upserted", object: service({ name: `s-${number}` }) });
    expect(told()).toContain("s-999");
    expect(told()).not.toContain("s-1400");
    await pass(GATHER);
    expect(told()).toContain("s-1499");
  });
});
