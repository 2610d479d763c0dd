import type { Experiment } from "../api/types";
import { useLive, useNow } from "../live/live";
import type { SeenProbe } from "../live/probes";
import { seenRun } from "../live/reducer";
import { Panel } from "../parts/parts";
import { clock } from "../parts/words";
import { type Course, Window, course } from "./Readiness";

/** What each probe was answered, over the time of the run as far as this page saw it, and in numbers as a whole. */
export function Probes({ experiment }: { experiment: Experiment }) {
  const { known } = useLive();
  const drawn = course(experiment, useNow());
  if (experiment.probes.length === 0) return null;
  const seen = seenRun(known, experiment);
  const since = seen && clock(new Date(seen.since).toISOString());
  const answered = drawn && seen && [...seen.probes.values()].some((probe) => probe.answers.length > 0);
  return (
    <Panel title="Probes over the run" aside={answered && <span className="as-of">seen by this page since {since}</span>}>
      {experiment.probes.map((probe) => {
        const total = probe.passed + probe.failed;
        const own = seen?.probes.get(probe.name);
        return (
          <div key={probe.name} className="probe">
            <strong>{probe.name}</strong>
            <span>
              <meter min={0} max={Math.max(1, total)} value={probe.passed} aria-label={`passed of ${total}`} /> {probe.passed} passed, {probe.failed} failed
            </span>
            {probe.firstFailure && <span className="failure">{probe.firstFailure}</span>}
            {answered && own && <Strip name={probe.name} probe={own} since={seen.since} drawn={drawn} />}
          </div>
        );
      })}
      {answered ? (
        <>
          <p className="faint legend">
            <i className="passed" /> as expected <i className="failed" /> not as expected <i className="unseen" /> not seen by this page <i className="window" /> the fault was on
          </p>
          <p className="faint">An experiment says how many answers there were, and not when each came: what is drawn is what was counted anew while this page was open.</p>
        </>
      ) : (
        <p className="faint">{seen ? `Seen by this page since ${since}; nothing was answered since.` : "This page was not open while the probes were asked: how many answers there were is all that is known."}</p>
      )}
    </Panel>
  );
}

function Strip({ name, probe, since, drawn }: { name: string; probe: SeenProbe; since: number; drawn: Course }) {
  const sum = (what: "passed" | "failed") => probe.answers.reduce((sum, answers) => sum + answers[what], 0);
  const unseen = drawn.share(since);
  return (
    <span className="answers">
      <svg viewBox="0 0 1000 20" preserveAspectRatio="none" role="img" aria-label={`${name}, since ${clock(new Date(since).toISOString())}: ${sum("passed")} answers as expected, ${sum("failed")} not`}>
        {unseen > 0 && <rect x="0" width={unseen} y="9" height="2" className="unseen" />}
        {probe.answers.map(({ from, to, failed }) => {
          const x = drawn.share(from);
          return <rect key={to} x={x} width={Math.max(2, drawn.share(to) - x)} {...(failed > 0 ? { y: 1, height: 18, className: "failed" } : { y: 6, height: 8, className: "passed" })} />;
        })}
        <Window of={drawn} />
      </svg>
    </span>
  );
}
