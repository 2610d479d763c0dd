import { Link } from "@tanstack/react-router";
import { memo, useState } from "react";
import type { Light as Colour, Service, Vitals } from "../api/types";
import { useLive, useNow } from "../live/live";
import { all, vitalsOf } from "../live/reducer";
import { Rows } from "../parts/near";
import { Age, AsOf, Badge, Light, Notice, Panel, Reason, Shown, useLateness } from "../parts/parts";
import { Labelled } from "../parts/SchemaForm";
import { percent, rate, seconds, until } from "../parts/words";

/** From so many services on one looks for a name. */
const MANY = 30;
const GRAVITY: Record<Colour, number> = { Red: 0, Grey: 1, Yellow: 2, Green: 3 };

export function Overview() {
  const { known } = useLive();
  const [wanted, setWanted] = useState("");
  const services = all(known, "ResilientService");
  const slow = known.vitals.filter((vitals) => vitals.slow);
  const counts = (["Green", "Yellow", "Red", "Grey"] as const).map(
    (light) => [light, services.filter((service) => service.light === light).length] as const,
  );
  const named = services.filter((service) => `${service.namespace}/${service.name}`.includes(wanted.trim()));
  const sorted = named.sort((one, other) => GRAVITY[one.light] - GRAVITY[other.light]);
  const late = useLateness("ResilientService");
  return (
    <>
      <h1>Overview</h1>
      {slow.length > 0 && (
        <Notice tone="bad" title={`${slow.length === 1 ? "One service answers" : `${slow.length} services answer`} slowly.`}>
          <ul className="bare">
            {slow.map((vitals) => (
              <li key={`${vitals.namespace}/${vitals.name}`}>
                <ServiceLink namespace={vitals.namespace} name={vitals.name} />: {seconds(vitals.mean)} in the mean of
                the last 30 s, more than 1 s
              </li>
            ))}
          </ul>
        </Notice>
      )}
      <Running />
      <Panel
        title={
          <>
            Services{" "}
            <span className="counts">
              {!late && counts.filter(([, count]) => count > 0).map(([light, count]) => (
                <span key={light}>
                  {count} <Light colour={light} />
                </span>
              ))}
            </span>
          </>
        }
        aside={<AsOf kind="ResilientService" />}
      >
        <Shown
          kind="ResilientService"
          empty={
            services.length === 0 ? (
              <Notice title="There is no ResilientService yet.">
                Create one, as in the folder <code>examples</code>: it appears here by itself.
              </Notice>
            ) : null
          }
        >
          {services.length > MANY && (
            <div className="fields">
              <Labelled label="Only those whose name has" help={`${sorted.length} of ${services.length} are shown; what is not well comes first.`}>
                {(attributes) => <input {...attributes} type="search" spellCheck={false} value={wanted} onChange={(event) => setWanted(event.target.value)} />}
              </Labelled>
            </div>
          )}
          <div className="wide">
            <table aria-rowcount={sorted.length + 1}>
              <thead>
                <tr>
                  <th>Service</th>
                  <th>Light</th>
                  <th>Why, and since when</th>
                  <th className="number">Replicas</th>
                  <th className="number">Config</th>
                  <th>Circuits</th>
                  <th className="number">Requests</th>
                  <th className="number">5xx</th>
                  <th className="number">Mean</th>
                  <th className="number">p50</th>
                  <th className="number">p95</th>
                  <th className="number">p99</th>
                </tr>
              </thead>
              <Rows
                items={sorted}
                row={(service) => (
                  <Row
                    key={`${service.namespace}/${service.name}`}
                    service={service}
                    vitals={vitalsOf(known, service.namespace, service.name)}
                    late={late}
                  />
                )}
              />
            </table>
          </div>
        </Shown>
      </Panel>
    </>
  );
}

/** Drawn anew where its own service changes, and not with every other one. */
const Row = memo(function Row({ service, vitals, late }: { service: Service; vitals: Vitals | undefined; late: string | null }) {
  const open = service.breakers.some((breaker) => breaker.open > 0);
  return (
    <tr className={service.light === "Red" && !late ? "red" : undefined}>
      <th scope="row" data-label="Service">
        <ServiceLink namespace={service.namespace} name={service.name} />
        <small>{service.namespace}</small>
        {service.faults.map((fault) => (
          <Badge key={fault.run} tone="fault">
            {fault.type} in {fault.pods} {fault.pods === 1 ? "pod" : "pods"}
          </Badge>
        ))}
      </th>
      <td data-label="Light">
        <Light colour={service.light} late={late !== null} />
      </td>
      <td data-label="Why" className="why" title={service.message}>
        {late ? (
          <>
            <span>{late}</span> <small>before: <Reason word={service.reason} /></small>
          </>
        ) : (
          <>
            <Reason word={service.reason} /> <small>for <Age since={service.since} /></small>
          </>
        )}
      </td>
      <td data-label="Replicas" className="number">{service.replicas || "–"}</td>
      <td data-label="Config" className="number">{service.config || "–"}</td>
      <td data-label="Circuits">{open ? <Badge tone={late ? "plain" : "bad"}>{service.circuits}</Badge> : service.circuits || "–"}</td>
      <td data-label="Requests" className="number">{rate(vitals?.rate)}</td>
      <td data-label="5xx" className={(vitals?.errors ?? 0) > 0 ? "number alarm" : "number"}>{percent(vitals?.errors)}</td>
      <td data-label="Mean" className={vitals?.slow ? "number alarm" : "number"}>{seconds(vitals?.mean)}</td>
      <td data-label="p50" className="number">{seconds(vitals?.p50)}</td>
      <td data-label="p95" className="number">{seconds(vitals?.p95)}</td>
      <td data-label="p99" className="number">{seconds(vitals?.p99)}</td>
    </tr>
  );
});

function Running() {
  const { known } = useLive();
  const now = useNow();
  const running = all(known, "ChaosExperiment").filter((experiment) => experiment.active);
  if (running.length === 0) return null;
  return (
    <Notice tone="busy" title="Under way">
      <ul className="bare">
        {running.map((experiment) => (
          <li key={`${experiment.namespace}/${experiment.name}`}>
            <Link
              to="/chaos/$namespace/$name"
              params={{ namespace: experiment.namespace, name: experiment.name }}
            >
              {experiment.name}
            </Link>{" "}
            on {experiment.target}: {experiment.phase}
            {experiment.endsAt && <>, ends in {until(experiment.endsAt, now)}</>}
          </li>
        ))}
      </ul>
    </Notice>
  );
}

export const ServiceLink = ({ namespace, name }: { namespace: string; name: string }) => (
  <Link to="/services/$namespace/$name" params={{ namespace, name }}>
    {name}
  </Link>
);
