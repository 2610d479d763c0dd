import { useMutation } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { type FormEvent, useId, useState } from "react";
import { post } from "../api/client";
import type { Experiment, Written } from "../api/types";
import { useLive, useNow } from "../live/live";
import { all } from "../live/reducer";
import { AsOf, Failure, Notice, Panel, Shown, Word } from "../parts/parts";
import { age, spaced, until } from "../parts/words";
import { DEFAULTS, FAULTS, type Fault, type Fields, OF, PRESETS, freshName, spec } from "./presets";

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
              <tbody>
                {experiments.map((experiment) => (
                  <Row key={`${experiment.namespace}/${experiment.name}`} experiment={experiment} />
                ))}
              </tbody>
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
      <td data-label="Why" className="why" title={experiment.message}>{experiment.reason || "–"}</td>
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

function Begin() {
  const { known } = useLive();
  const services = all(known, "ResilientService");
  const allowed = services.filter((service) => service.chaosAllowed);
  const [target, setTarget] = useState("");
  const [fault, setFault] = useState<Fault>("latency");
  const [fields, setFields] = useState<Fields>(DEFAULTS);
  const navigate = useNavigate();
  const begin = useMutation({
    mutationFn: (wanted: { service: { namespace: string; name: string }; fault: Fault; fields: Fields }) =>
      post<Written>("/api/experiments", {
        namespace: wanted.service.namespace,
        name: freshName(wanted.service.name, wanted.fault, new Date()),
        spec: spec(wanted.service.name, wanted.fault, wanted.fields),
      }),
    onSuccess: ({ namespace, name }) => navigate({ to: "/chaos/$namespace/$name", params: { namespace, name } }),
  });
  const chosen = allowed.find((service) => `${service.namespace}/${service.name}` === target) ?? allowed[0];
  const set = (name: keyof Fields, value: string | boolean) => setFields({ ...fields, [name]: value });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (chosen) begin.mutate({ service: chosen, fault, fields });
  };
  return (
    <Panel title="Begin">
      <div className="presets">
        {PRESETS.map((preset) => {
          const service = services.find((service) => service.name === preset.target);
          return (
            <button
              key={preset.title}
              type="button"
              disabled={!service || begin.isPending}
              title={service ? preset.explanation : `There is no service ${preset.target}.`}
              onClick={() => service && begin.mutate({ service, fault: preset.fault, fields: preset.fields })}
            >
              <strong>{preset.title}</strong>
              <small>{service ? preset.explanation : `There is no service ${preset.target} here.`}</small>
            </button>
          );
        })}
        <Link to="/orders" className="button">
          <strong>Trigger gremlin</strong>
          <small>An order whose stock is counted five seconds late, on the page of orders.</small>
        </Link>
      </div>
      <details>
        <summary>An experiment of your own</summary>
        <form className="fields" onSubmit={submit}>
          <Field label="Service" help="Those that allow chaos.">
            {(id) => (
              <select id={id} value={target} onChange={(event) => setTarget(event.target.value)}>
                {allowed.map((service) => (
                  <option key={`${service.namespace}/${service.name}`} value={`${service.namespace}/${service.name}`}>
                    {service.name} in {service.namespace}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <Field label="Fault">
            {(id) => (
              <select id={id} value={fault} onChange={(event) => setFault(event.target.value as Fault)}>
                {FAULTS.map((fault) => (
                  <option key={fault} value={fault}>
                    {spaced(fault)}
                  </option>
                ))}
              </select>
            )}
          </Field>
          {OF[fault].map((name) => (
            <Text key={name} name={name} fields={fields} set={set} />
          ))}
          {fault !== "podKill" && <Text name="duration" fields={fields} set={set} />}
          <Text name="count" fields={fields} set={set} />
          <Text name="schedule" fields={fields} set={set} />
          <label className="check">
            <input type="checkbox" checked={fields.dryRun} onChange={(event) => set("dryRun", event.target.checked)} />
            Dry run: say who would be hurt, and hurt nobody
          </label>
          <button type="submit" className="primary" disabled={!chosen || begin.isPending}>
            Begin
          </button>
          {allowed.length === 0 && <p className="faint">No service allows chaos.</p>}
        </form>
      </details>
      <Failure error={begin.error} />
    </Panel>
  );
}

const LABELS: Record<Exclude<keyof Fields, "dryRun">, [string, string]> = {
  duration: ["Duration", "Such as 30s or 1m30s."],
  count: ["Pods", "A number, or a percentage of the ready ones."],
  delay: ["Delay", "Such as 500ms or 2s."],
  percent: ["Percent", "1 to 100."],
  status: ["Status", "400 to 599."],
  routes: ["Routes", "Such as GET /api/items/{id}, with commas between; empty: all."],
  method: ["Method", "Evict or Delete."],
  peer: ["Peer", "The other service, name or namespace/name."],
  direction: ["Direction", "Ingress, Egress or Both."],
  times: ["Times", "1 to 3."],
  workers: ["Workers", "Threads, 1 to 64."],
  size: ["Size", "Such as 64Mi."],
  schedule: ["Schedule", "Five fields of cron; empty: now."],
};

function Text({
  name,
  fields,
  set,
}: {
  name: keyof Fields;
  fields: Fields;
  set: (name: keyof Fields, value: string) => void;
}) {
  if (name === "dryRun") return null;
  const [label, help] = LABELS[name];
  return (
    <Field label={label} help={help}>
      {(id) => <input id={id} value={fields[name]} onChange={(event) => set(name, event.target.value)} />}
    </Field>
  );
}

export function Field({ label, help, children }: { label: string; help?: string; children: (id: string) => React.ReactNode }) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children(id)}
      {help && <small>{help}</small>}
    </div>
  );
}
