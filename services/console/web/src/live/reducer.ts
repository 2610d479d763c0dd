/** What the page knows, as the stream of messages tells it. Pure. */
import type { Backup, Experiment, Item, Kind, Message, Pod, Policy, Restore, SeenStream, Service, Silence, Vitals } from "../api/types";
import { type SeenRun, remember } from "./probes";

export interface Known {
  /** Whether the first snapshot has come. */
  ready: boolean;
  /** Objects by kind, namespace and name. */
  objects: ReadonlyMap<string, Item>;
  vitals: readonly Vitals[];
  streams: readonly SeenStream[];
  /** Since when nobody writes status, and how that is known; null while somebody does, or it is not known. */
  silence: Silence | null;
  /** The clock of the console less our own. Unit: milliseconds. */
  skew: number;
  /** What this page has seen of the probes of experiments, by the experiment's kind, namespace and name. */
  runs: ReadonlyMap<string, SeenRun>;
}

export const NOTHING: Known = { ready: false, objects: new Map(), vitals: [], streams: [], silence: null, skew: 0, runs: new Map() };

const id = (kind: string, namespace: string, name: string) => `${kind}/${namespace}/${name}`;

/** How much of it is true, which comes with every sign of life. */
const beat = ({ streams, operatorSilence, now }: Pick<Extract<Message, { type: "heartbeat" }>, "streams" | "operatorSilence" | "now">, at: number) => ({
  streams,
  silence: operatorSilence ?? null,
  skew: Date.parse(now) - at,
});

/** What is known after `messages`, which came at `now`. Each thousand of them costs one copy of what is known, not a thousand. */
export function learn(known: Known, messages: readonly Message[], now: number): Known {
  let after = known;
  // Ours alone until this is over: nobody has seen it yet.
  let own: Map<string, Item> | undefined;
  const objects = () => {
    own ??= new Map(after.objects);
    return own;
  };
  const see = (item: Item) => {
    if (item.kind === "ChaosExperiment")
      after = { ...after, runs: remember(after.runs, id(item.kind, item.namespace, item.name), item, now + after.skew) };
  };
  for (const message of messages)
    switch (message.type) {
      case "snapshot":
        own = new Map(message.objects.map((item) => [id(item.kind, item.namespace, item.name), item]));
        after = { ready: true, objects: own, vitals: message.vitals, runs: after.runs, ...beat(message, now) };
        message.objects.forEach(see);
        break;
      case "upserted": {
        const { kind, namespace, name } = message.object;
        objects().set(id(kind, namespace, name), message.object);
        see(message.object);
        break;
      }
      case "deleted":
        objects().delete(id(message.kind, message.namespace, message.name));
        break;
      case "vitals":
        after = { ...after, vitals: message.services };
        break;
      case "heartbeat":
        after = { ...after, ...beat(message, now) };
        break;
      case "signedOut":
        own = undefined;
        after = NOTHING;
        break;
      default:
      // A newer backend may say more than this page understands.
    }
  return own ? { ...after, objects: own } : after;
}

interface Kinds {
  ResilientService: Service;
  ChaosExperiment: Experiment;
  BackupPolicy: Policy;
  Backup: Backup;
  Restore: Restore;
  Pod: Pod;
}

/** What was sorted once is not sorted again for each who asks; it goes with what it was made of. */
const sorted = new WeakMap<ReadonlyMap<string, Item>, Map<Kind, Item[]>>();

const before = (one: string, other: string) => (one < other ? -1 : one > other ? 1 : 0);

/** Every object of a kind, by namespace and name. */
export function all<K extends Kind>(known: Known, kind: K): Kinds[K][] {
  const kinds = sorted.get(known.objects) ?? new Map<Kind, Item[]>();
  sorted.set(known.objects, kinds);
  let items = kinds.get(kind);
  if (!items) {
    items = [...known.objects.values()].filter((item) => item.kind === kind);
    items.sort((one, other) => before(one.namespace, other.namespace) || before(one.name, other.name));
    kinds.set(kind, items);
  }
  return [...items] as unknown as Kinds[K][];
}

/** What this page has seen of the probes of an experiment's run; nothing where that run is another one. */
export function seenRun(known: Known, { namespace, name, run }: Experiment): SeenRun | undefined {
  const seen = known.runs.get(id("ChaosExperiment", namespace, name));
  return seen?.run === run ? seen : undefined;
}

/** One object. */
export function one<K extends Kind>(known: Known, kind: K, namespace: string, name: string): Kinds[K] | undefined {
  return known.objects.get(id(kind, namespace, name)) as Kinds[K] | undefined;
}

export const stream = (known: Known, kind: Kind): SeenStream | undefined =>
  known.streams.find((stream) => stream.kind === kind);

const byName = new WeakMap<readonly Vitals[], Map<string, Vitals>>();

export function vitalsOf(known: Known, namespace: string, name: string): Vitals | undefined {
  const names = byName.get(known.vitals) ?? new Map(known.vitals.map((vitals) => [`${vitals.namespace}/${vitals.name}`, vitals]));
  byName.set(known.vitals, names);
  return names.get(`${namespace}/${name}`);
}
