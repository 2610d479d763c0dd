import { useQuery } from "@tanstack/react-query";
import { get } from "../api/client";
import type { Experiment, Turn, Turns } from "../api/types";
import { useLive, useNow } from "../live/live";
import { Asked, Failure, Loading, Notice, Panel } from "../parts/parts";

/** What is drawn before the run and after it. Unit: milliseconds. */
const MARGIN = 15_000;

/** A pod from one moment to another, as a share of the whole time: 0 is its begin, 1000 its end. */
export interface Span {
  from: number;
  to: number;
  state: Turn["state"];
}

/** The spans of each pod between two moments, by its turns; before its first turn it is not known. Pure. */
export function spans(turns: readonly Turn[], begin: number, end: number): Map<string, Span[]> {
  const share = (time: number) => Math.round(Math.min(1, Math.max(0, (time - begin) / Math.max(1, end - begin))) * 1000);
  const pods = new Map<string, Span[]>();
  for (const { pod, at, state } of turns) {
    const from = share(Date.parse(at));
    const before = pods.get(pod) ?? [];
    const last = before.at(-1);
    if (last) last.to = from;
    pods.set(pod, [...before, { from, to: 1000, state }]);
  }
  // A pod that was gone before, or came after, is none of this run.
  const seen = (spans: Span[]) => spans.filter((span) => span.to > span.from && span.state !== "Gone");
  return new Map([...pods].map(([pod, spans]) => [pod, seen(spans)] as const).filter(([, spans]) => spans.length > 0));
}

/** In words: how much of the time the pod was ready. */
export const ready = (spans: readonly Span[]): string => {
  const of = (state: Turn["state"]) => spans.filter((span) => span.state === state).reduce((sum, span) => sum + span.to - span.from, 0);
  const all = of("Ready") + of("Unready");
  return `ready for ${Math.round((100 * of("Ready")) / Math.max(1, all))} % of the time that it was there`;
};

/** The time that is drawn of a run, and places in it as shares of it: 0 is its begin, 1000 its end. */
export interface Course {
  begin: number;
  end: number;
  share: (time: number) => number;
  /** Where the fault began and ended; none before it did. */
  fault: { from: number; to: number } | null;
}

/** None before a run has begun. Pure. */
export function course(experiment: Experiment, now: number): Course | null {
  const { intentAt, injectedAt, faultEndedAt, completedAt, active } = experiment;
  const began = intentAt ?? injectedAt;
  if (!began) return null;
  const begin = Date.parse(began) - MARGIN;
  const end = Math.min(now, completedAt && !active ? Date.parse(completedAt) + MARGIN : now);
  const share = (time: number) => Math.round(Math.min(1, Math.max(0, (time - begin) / Math.max(1, end - begin))) * 1000);
  const fault = injectedAt ? { from: share(Date.parse(injectedAt)), to: faultEndedAt ? share(Date.parse(faultEndedAt)) : 1000 } : null;
  return { begin, end, share, fault };
}

/** The time in which the fault was on, in what is drawn of a run. */
export const Window = ({ of: { fault } }: { of: Course }) =>
  fault && <rect x={fault.from} width={Math.max(2, fault.to - fault.from)} y="0" height="20" className="window" />;

/** When which pod of the target was ready, beside the window in which the fault was on. */
export function Readiness({ experiment }: { experiment: Experiment }) {
  const { known } = useLive();
  const now = useNow();
  const { namespace, target, active } = experiment;
  const turns = useQuery({
    queryKey: ["readiness", namespace, target],
    queryFn: ({ signal }) => get<Turns>(`/api/services/${namespace}/${target}/readiness`, signal),
    refetchInterval: active ? 2_000 : 10_000,
  });
  const drawn = course(experiment, now);
  if (!drawn) return null;
  const pods = spans(turns.data?.turns ?? [], drawn.begin, drawn.end);
  return (
    <Panel title="Readiness over the run" aside={turns.data && <Asked at={turns.dataUpdatedAt + known.skew} words="as of" />}>
      <Failure error={turns.error} />
      {turns.isPending && <Loading />}
      {turns.data && pods.size === 0 && <Notice title="No pod of the target was seen in that time.">The console remembers from its own start on.</Notice>}
      {[...pods].map(([pod, spans]) => (
        <div key={pod} className="readiness">
          <span>{pod}</span>
          <svg viewBox="0 0 1000 20" preserveAspectRatio="none" role="img" aria-label={`${pod}: ${ready(spans)}`}>
            {spans.map((span) => (
              <rect key={span.from} x={span.from} width={span.to - span.from} {...(span.state === "Ready" ? { y: 4, height: 12, className: "ready" } : { y: 8, height: 4, className: "unready" })} />
            ))}
            <Window of={drawn} />
          </svg>
        </div>
      ))}
      {pods.size > 0 && (
        <p className="faint legend">
          <i className="ready" /> ready <i className="unready" /> not ready <i className="window" /> the fault was on
        </p>
      )}
    </Panel>
  );
}
