/**
 * What this page saw of a run's probes. The status of an experiment has but how many answers were as expected and how many
 * were not, so what it said at each moment is remembered here, and what came in between is their difference. Bounded. Pure.
 */
import type { Experiment } from "../api/types";

/** Answers that came between two moments. Unit of these: milliseconds since 1970, by the console's clock. */
export interface Answers {
  from: number;
  to: number;
  passed: number;
  failed: number;
}

/** One probe: what status counted last, and what was seen to come. */
export interface SeenProbe {
  passed: number;
  failed: number;
  /** When that was. */
  at: number;
  answers: readonly Answers[];
}

/** The probes of one run, by name. */
export interface SeenRun {
  run: string;
  /** From when on all of it was seen. */
  since: number;
  probes: ReadonlyMap<string, SeenProbe>;
}

/** Moments that are kept of each probe; the oldest are forgotten first. */
const MOST_MOMENTS = 300;
/** Experiments whose runs are kept; of more, those that have changed last. */
export const MOST_RUNS = 20;

/** What was seen of an experiment's run once it says this, at `now`; nothing of one that was over before it was seen. */
export function observe(before: SeenRun | undefined, experiment: Experiment, now: number): SeenRun | undefined {
  const { run } = experiment;
  const own = before?.run === run ? before : undefined;
  if (!run || (!own && !experiment.active && !experiment.waiting)) return before;
  let since = own?.since ?? now;
  const probes = new Map<string, SeenProbe>();
  for (const { name, passed, failed } of experiment.probes) {
    // When which of the answers came that were counted before is not known; a probe that appears later has none of those.
    const counted = own ? { passed: 0, failed: 0 } : { passed, failed };
    const last = own?.probes.get(name) ?? { ...counted, at: now, answers: [] };
    const more = { from: last.at, to: now, passed: Math.max(0, passed - last.passed), failed: Math.max(0, failed - last.failed) };
    let answers = more.passed + more.failed > 0 ? [...last.answers, more] : last.answers;
    if (answers.length > MOST_MOMENTS) {
      answers = answers.slice(-MOST_MOMENTS);
      since = Math.max(since, answers[0]?.from ?? since);
    }
    probes.set(name, { passed, failed, at: now, answers });
  }
  return { run, since, probes };
}

/** The same among those of other experiments, whose ids are the keys. */
export function remember(runs: ReadonlyMap<string, SeenRun>, id: string, experiment: Experiment, now: number): ReadonlyMap<string, SeenRun> {
  const seen = observe(runs.get(id), experiment, now);
  if (!seen || seen === runs.get(id)) return runs;
  const after = new Map(runs);
  // A map remembers in which order its keys came.
  after.delete(id);
  after.set(id, seen);
  for (const oldest of after.keys()) {
    if (after.size <= MOST_RUNS) break;
    after.delete(oldest);
  }
  return after;
}
