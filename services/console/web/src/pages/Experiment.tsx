import { useMutation } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { post } from "../api/client";
import type { Experiment } from "../api/types";
import { useLive, useNow } from "../live/live";
import { all, one } from "../live/reducer";
import { AsOf, Badge, Failure, Notice, Panel, Reason, Shown, Word } from "../parts/parts";
import { clock, spaced, until } from "../parts/words";
import { Happened } from "./Events";
import { Probes } from "./Probes";
import { Readiness } from "./Readiness";
import { Tile } from "./Service";

export function ExperimentPage() {
  const { namespace, name } = useParams({ from: "/chaos/$namespace/$name" });
  const { known } = useLive();
  const experiment = one(known, "ChaosExperiment", namespace, name);
  const missing = <Notice title={`There is no experiment ${name} in ${namespace} that you may see.`} />;
  return (
    <>
      <h1>
        {name} <small>{namespace}</small>
      </h1>
      <Shown kind="ChaosExperiment" empty={experiment ? null : missing}>
        {experiment && <Detail experiment={experiment} />}
      </Shown>
    </>
  );
}

function Detail({ experiment }: { experiment: Experiment }) {
  const { session, known } = useLive();
  const now = useNow();
  const path = `/api/experiments/${experiment.namespace}/${experiment.name}`;
  const stop = useMutation({ mutationFn: () => post(`${path}/stop`) });
  const again = useMutation({ mutationFn: () => post(`${path}/run`) });
  const pods = all(known, "Pod").filter(
    (pod) => pod.namespace === experiment.namespace && pod.service === experiment.target,
  );
  return (
    <>
      <p className="lead">
        <Word word={experiment.phase || "Pending"} /> <Word word={experiment.verdict} />{" "}
        <strong>{experiment.reason}</strong> {experiment.message}
        {experiment.endsAt && <strong className="countdown">{until(experiment.endsAt, now)} left</strong>}
      </p>
      {session?.user && (
        <div className="actions">
          {experiment.active || experiment.waiting || (experiment.schedule && experiment.desired === "Run") ? (
            <button type="button" className="danger" disabled={stop.isPending} onClick={() => stop.mutate()}>
              Stop and recover
            </button>
          ) : null}
          {!experiment.active && !experiment.waiting && (
            <button type="button" disabled={again.isPending} onClick={() => again.mutate()}>
              Run again
            </button>
          )}
          <Failure error={stop.error ?? again.error} />
        </div>
      )}
      <div className="tiles">
        <Tile title="Fault">{spaced(experiment.fault)}</Tile>
        <Tile title="Target">{experiment.target}</Tile>
        <Tile title="Pods">{experiment.count}</Tile>
        <Tile title="Duration">{experiment.duration ?? "once"}</Tile>
        <Tile title="Recovery">{experiment.timeToRecover ?? "–"}</Tile>
        {experiment.nextRunAt && <Tile title="Next run">in {until(experiment.nextRunAt, now)}</Tile>}
      </div>
      <Panel title="Timeline" aside={<AsOf kind="ChaosExperiment" />}>
        <ol className="timeline">
          <Step title="Before" at={experiment.intentAt} done={Boolean(experiment.intentAt)}>
            the steady state is probed, the pods are chosen
          </Step>
          <Step title="Injected" at={experiment.injectedAt} done={Boolean(experiment.injectedAt)}>
            {experiment.targets.length > 0
              ? `${experiment.targets.filter((target) => ["Active", "Recovered"].includes(target.state)).length} of ${experiment.targets.length} pods`
              : "the fault is on"}
          </Step>
          <Step title="Fault over" at={experiment.faultEndedAt} done={Boolean(experiment.faultEndedAt)}>
            read back as gone
          </Step>
          <Step title="Steady again" at={experiment.steadyAgainAt} done={Boolean(experiment.steadyAgainAt)}>
            {experiment.timeToRecover ? `after ${experiment.timeToRecover}` : "probes pass, pods are ready"}
          </Step>
          <Step title="Judged" at={experiment.completedAt} done={Boolean(experiment.completedAt)}>
            {experiment.verdict || "the verdict"}
          </Step>
        </ol>
      </Panel>
      <Readiness experiment={experiment} />
      <Probes experiment={experiment} />
      <Panel title="Pods">
        <div className="strip">
          {pods.map((pod) => {
            const victim = experiment.targets.find((target) => target.pod === pod.name);
            return (
              <span key={pod.name} className={`pod ${pod.ready ? "ready" : "unready"}`} title={victim?.message ?? ""}>
                {pod.name}
                <small>
                  {pod.ready ? "ready" : pod.phase}
                  {victim && `, ${victim.state}`}
                </small>
              </span>
            );
          })}
          {pods.length === 0 && <Notice title="No pod of the target is known." />}
        </div>
      </Panel>
      {experiment.history.length > 0 && (
        <Panel title="Runs before">
          <div className="wide">
            <table>
              <thead>
                <tr>
                  <th>When</th>
                  <th>Fault</th>
                  <th>Verdict</th>
                  <th>Why</th>
                  <th className="number">Recovery</th>
                </tr>
              </thead>
              <tbody>
                {experiment.history.map((run) => (
                  <tr key={`${run.run}/${run.at}`}>
                    <td data-label="When">{clock(run.at)}</td>
                    <td data-label="Fault">{spaced(run.type)}</td>
                    <td data-label="Verdict"><Word word={run.verdict} /></td>
                    <td data-label="Why"><Reason word={run.reason} /></td>
                    <td data-label="Recovery" className="number">{run.recovery ?? "–"}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </Panel>
      )}
      <Happened namespace={experiment.namespace} name={experiment.name} />
    </>
  );
}

const Step = ({
  title,
  at,
  done,
  children,
}: {
  title: string;
  at: string | null | undefined;
  done: boolean;
  children: React.ReactNode;
}) => (
  <li className={done ? "done" : ""}>
    <strong>{title}</strong>
    <span>{at ? clock(at) : <Badge>not yet</Badge>}</span>
    <small>{children}</small>
  </li>
);
