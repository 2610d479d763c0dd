// The Node peers of `make bench`, each in its cheapest ordinary configuration with the thresholds of our default: open
// at half of at least 20 calls in 30 seconds. It speaks the protocol of benches/measure. An operation is awaited before
// the next one begins, as a request handler does.
import { createInterface } from 'node:readline';
import { readFileSync } from 'node:fs';
import { circuitBreaker, CircuitState, handleAll, SamplingBreaker } from 'cockatiel';
import { Redis } from 'ioredis';
import CircuitBreaker from 'opossum';
import { RateLimiterMemory, RateLimiterRedis } from 'rate-limiter-flexible';

const version = (name) =>
  JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;
const HOUR = 3_600_000;

/** CPU time of all threads of this process in nanoseconds, the garbage collector's too. */
const cpu = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1e3;
};

/** CPU nanoseconds per operation, over about `nanos` of CPU; finding the right count also warms up. */
const perOperation = (run) => async (nanos) => {
  const taken = async (count) => {
    const before = cpu();
    await run(count);
    return cpu() - before;
  };
  let count = 64;
  let spent = 0;
  while ((spent = await taken(count)) < nanos / 4) count *= 2;
  count = Math.max(1, Math.round((count * nanos) / spent));
  return (await taken(count)) / count;
};

const repeat = (operation) =>
  perOperation(async (count) => {
    for (let number = 0; number < count; number += 1) await operation(number);
  });

const opossum = async () => {
  // No timer per call, and no HTTP method to sort by: the cheapest it can be.
  const build = (action) =>
    new CircuitBreaker(action, {
      timeout: false,
      errorThresholdPercentage: 50,
      volumeThreshold: 20,
      rollingCountTimeout: 30_000,
      resetTimeout: HOUR,
    });
  const closed = build(async () => 1);
  const open = build(async () => {
    throw new Error('down');
  });
  for (let call = 0; call < 20; call += 1) await open.fire().catch(() => {});
  if (!open.opened) throw new Error('opossum is not open');
  return {
    name: 'opossum',
    version: version('opossum'),
    rows: {
      'breaker/closed': repeat(() => closed.fire()),
      'breaker/open': repeat(() => open.fire().catch(() => {})),
    },
  };
};

const cockatiel = async () => {
  const build = () =>
    circuitBreaker(handleAll, {
      halfOpenAfter: HOUR,
      breaker: new SamplingBreaker({ threshold: 0.5, duration: 30_000, minimumRps: 20 / 30 }),
    });
  const [closed, open] = [build(), build()];
  const succeed = async () => 1;
  const fail = async () => {
    throw new Error('down');
  };
  for (let call = 0; call < 1_000 && open.state !== CircuitState.Open; call += 1) {
    await open.execute(fail).catch(() => {});
  }
  if (open.state !== CircuitState.Open) throw new Error('cockatiel is not open');
  return {
    name: 'cockatiel',
    version: version('cockatiel'),
    rows: {
      'breaker/closed': repeat(() => closed.execute(succeed)),
      'breaker/open': repeat(() => open.execute(succeed).catch(() => {})),
    },
  };
};

const rateLimiterFlexible = async () => {
  const settings = { points: 1_000_000_000, duration: 1 };
  const [one, many] = [new RateLimiterMemory(settings), new RateLimiterMemory(settings)];
  const keys = Array.from({ length: 10_000 }, (_, key) => `10.0.${Math.floor(key / 250)}.${key % 250}`);
  const rows = {};
  // A window that begins with its first request; it is beside our GCRA too.
  for (const algorithm of ['GCRA', 'Window']) {
    rows[`limit/${algorithm}`] = repeat(() => one.consume('one'));
    rows[`limit/${algorithm}, 10,000 keys`] = repeat((number) => many.consume(keys[number % keys.length]));
  }
  if (process.env.TEST_REDIS_URL) {
    const redis = new Redis(process.env.TEST_REDIS_URL);
    const shared = new RateLimiterRedis({ ...settings, storeClient: redis, keyPrefix: `bench-${process.pid}` });
    const nanoseconds = async (nanos) => {
      const times = [];
      for (const end = performance.now() + nanos / 1e6; performance.now() < end; ) {
        const began = performance.now();
        await shared.consume('one');
        times.push((performance.now() - began) * 1e6);
      }
      return times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
    };
    rows['shared_limit/p50 of a call'] = nanoseconds;
  }
  return { name: 'rate-limiter-flexible', version: version('rate-limiter-flexible'), rows };
};

const contenders = [await opossum(), await cockatiel(), await rateLimiterFlexible()];
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
say({ contenders: contenders.map((one) => ({ ...one, rows: Object.keys(one.rows) })) });
for await (const line of createInterface({ input: process.stdin })) {
  const { contender, row, millis } = JSON.parse(line);
  const { rows } = contenders.find(({ name }) => name === contender);
  say({ value: await rows[row](millis * 1e6) });
}
process.exit(0);
