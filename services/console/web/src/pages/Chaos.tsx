import { Link } from "@tanstack/react-router";
import type { Experiment } from "../api/types";
import { useLive, useNow } from "../live/live";
import { all } from "../live/reducer";
import { Rows } from "../parts/near";
import { AsOf, Notice, Panel, Reason, Shown, Word } from "../parts/parts";
import { age, spaced, until } from "../parts/words";
import { Begin } from "./Begin";

export function Chaos() {
  const { known, session } = useLive();
  const experiments = all(known, "ChaosExperiment").sort(
    (one, other) => Number(other.active) - Number(one.active) || (other.createdAt ?? "").localeCompare(one.createdAt ?? ""),
  );
  return (
    <>
      <h1>Chaos</h1>
      {session?.user ? (
        <Begin />
      ) : (
        <Notice title="Sign in to begin an experiment.">Whoever does has a name, and a role that allows it.</Notice>
      )}
      <Panel title="Experiments" aside={<AsOf kind="ChaosExperiment" />}>
        <Shown
          kind="ChaosExperiment"
          empty={
            experiments.length === 0 ? (
              <Notice title="There is no experiment yet.">Those that kubectl creates appear here too.</Notice>
            ) : null
          }
        >
          <div className="wide">
            <table>
              <thead>
                <tr>
                  <th>Experiment</th>
                  <th>Fault</th>
                  <th>Target</th>
                  <th>Phase</th>
                  <th>Verdict</th>
                  <th>Why</th>
                  <th className="number">Recovery</th>
                  <th className="number">When</th>
                </tr>
              </thead>
              <Rows
                items={experiments}
                row={(experiment) => <Row key={`${experiment.namespace}/${experiment.name}`} experiment={experiment} />}
              />
            </table>
          </div>
        </Shown>
      </Panel>
    </>
  );
}

function Row({ experiment }: { experiment: Experiment }) {
  const now = useNow();
  return (
    <tr>
      <th scope="row" data-label="Experiment">
        <Link to="/chaos/$namespace/$name" params={{ namespace: experiment.namespace, name: experiment.name }}>
          {experiment.name}
        </Link>
        <small>{experiment.namespace}</small>
      </th>
      <td data-label="Fault">{spaced(experiment.fault)}</td>
      <td data-label="Target">
        {experiment.target} <small>{experiment.count}</small>
      </td>
      <td data-label="Phase"><Word word={experiment.phase} /></td>
      <td data-label="Verdict"><Word word={experiment.verdict} /></td>
      <td data-label="Why" className="why" title={experiment.message}><Reason word={experiment.reason} /></td>
      <td data-label="Recovery" className="number">{experiment.timeToRecover ?? "–"}</td>
      <td data-label="When" className="number">
        {experiment.endsAt
          ? `${until(experiment.endsAt, now)} left`
          : experiment.active
            ? "now"
            : experiment.nextRunAt
              ? `in ${until(experiment.nextRunAt, now)}`
              : `${age(experiment.completedAt ?? experiment.createdAt, now)} ago`}
      </td>
    </tr>
  );
}
