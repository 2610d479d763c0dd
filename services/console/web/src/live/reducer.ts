/** What the page knows, as the stream of messages tells it. Pure. */
import type { Backup, Experiment, Item, Kind, Message, Pod, Policy, Restore, SeenStream, Service, Vitals } from "../api/types";

export interface Known {
  /** Whether the first snapshot has come. */
  ready: boolean;
  /** Objects by kind, namespace and name. */
  objects: ReadonlyMap<string, Item>;
  vitals: readonly Vitals[];
  streams: readonly SeenStream[];
  /** The clock of the console less our own. Unit: milliseconds. */
  skew: number;
}

export const NOTHING: Known = { ready: false, objects: new Map(), vitals: [], streams: [], skew: 0 };

const id = (kind: string, namespace: string, name: string) => `${kind}/${namespace}/${name}`;

/** What is known after `message`, which came at `now`. */
export function learn(known: Known, message: Message, now: number): Known {
  switch (message.type) {
    case "snapshot":
      return {
        ready: true,
        objects: new Map(message.objects.map((item) => [id(item.kind, item.namespace, item.name), item])),
        vitals: message.vitals,
        streams: message.streams,
        skew: Date.parse(message.now) - now,
      };
    case "upserted": {
      const objects = new Map(known.objects);
      const { kind, namespace, name } = message.object;
      objects.set(id(kind, namespace, name), message.object);
      return { ...known, objects };
    }
    case "deleted": {
      const objects = new Map(known.objects);
      objects.delete(id(message.kind, message.namespace, message.name));
      return { ...known, objects };
    }
    case "vitals":
      return { ...known, vitals: message.services };
    case "heartbeat":
      return { ...known, streams: message.streams, skew: Date.parse(message.now) - now };
    case "signedOut":
      return NOTHING;
    default:
      // A newer backend may say more than this page understands.
      return known;
  }
}

interface Kinds {
  ResilientService: Service;
  ChaosExperiment: Experiment;
  BackupPolicy: Policy;
  Backup: Backup;
  Restore: Restore;
  Pod: Pod;
}

/** Every object of a kind, by namespace and name. */
export function all<K extends Kind>(known: Known, kind: K): Kinds[K][] {
  const items = [...known.objects.values()].filter((item) => item.kind === kind);
  items.sort((one, other) => one.namespace.localeCompare(other.namespace) || one.name.localeCompare(other.name));
  return items as unknown as Kinds[K][];
}

/** One object. */
export function one<K extends Kind>(known: Known, kind: K, namespace: string, name: string): Kinds[K] | undefined {
  return known.objects.get(id(kind, namespace, name)) as Kinds[K] | undefined;
}

export const stream = (known: Known, kind: Kind): SeenStream | undefined =>
  known.streams.find((stream) => stream.kind === kind);

export const vitalsOf = (known: Known, namespace: string, name: string): Vitals | undefined =>
  known.vitals.find((vitals) => vitals.namespace === namespace && vitals.name === name);
