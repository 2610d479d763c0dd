import { useQuery } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { useMemo, useRef } from "react";
import { get } from "../api/client";
import type { Moment, Moments, PodReport, Pods } from "../api/types";
import { useLive, useNow } from "../live/live";
import { all, one, vitalsOf } from "../live/reducer";
import { Chart } from "../parts/Chart";
import { AsOf, Badge, Failure, Light, Loading, Notice, Panel, Reason, Shown, useLateness } from "../parts/parts";
import { age, clock, seconds, until } from "../parts/words";
import { Happened } from "./Events";

export function ServicePage() {
  const { namespace, name } = useParams({ from: "/services/$namespace/$name" });
  const { known } = useLive();
  const now = useNow();
  const late = useLateness("ResilientService");
  const service = one(known, "ResilientService", namespace, name);
  const missing = <Notice title={`There is no service ${name} in ${namespace} that you may see.`} />;
  return (
    <>
      <h1>
        {name} <small>{namespace}</small> {service && <Light colour={service.light} late={late !== null} />}
      </h1>
      <Shown kind="ResilientService" empty={service ? null : missing}>
        {service && (
          <>
            <p className="lead">
              {late && <>LATE, {late}. Before that: </>}
              <strong>{service.reason}</strong> {late ? "since" : "for"} {late ? clock(service.since) : age(service.since, now)}. {service.message}
            </p>
            <div className="tiles">
              <Tile title="Replicas">{service.replicas || "–"}</Tile>
              <Tile title="Config">{service.config || "–"}</Tile>
              <Tile title="Circuits">{service.circuits || "–"}</Tile>
              <Tile title="Image">{service.image || "–"}</Tile>
              <Tile title="Chaos">{service.chaosAllowed ? "allowed" : "not allowed"}</Tile>
            </div>
            <Faults namespace={namespace} name={name} />
            <Latency namespace={namespace} name={name} />
            <Reports namespace={namespace} name={name} />
            <Panel title="Conditions" aside={<AsOf kind="ResilientService" />}>
              <div className="wide">
                <table>
                  <thead>
                    <tr>
                      <th>Condition</th>
                      <th>Status</th>
                      <th>Reason</th>
                      <th>Message</th>
                      <th className="number">For</th>
                    </tr>
                  </thead>
                  <tbody>
                    {service.conditions.map((condition) => (
                      <tr key={condition.type}>
                        <th scope="row" data-label="Condition">{condition.type}</th>
                        <td data-label="Status">{condition.status}</td>
                        <td data-label="Reason"><Reason word={condition.reason} /></td>
                        <td data-label="Message" className="long">{condition.message || "–"}</td>
                        <td data-label="For" className="number">{age(condition.since, now)}</td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
            </Panel>
            <Happened namespace={namespace} name={name} />
          </>
        )}
      </Shown>
    </>
  );
}

export const Tile = ({ title, children }: { title: string; children: React.ReactNode }) => (
  <div className="tile">
    <span>{title}</span>
    <strong>{children}</strong>
  </div>
);

function Faults({ namespace, name }: { namespace: string; name: string }) {
  const { known } = useLive();
  const now = useNow();
  const service = one(known, "ResilientService", namespace, name);
  const experiments = all(known, "ChaosExperiment");
  if (!service || service.faults.length === 0) return null;
  return (
    <Notice tone="fault" title="Active faults">
      <ul className="bare">
        {service.faults.map((fault) => {
          const experiment = experiments.find((experiment) => experiment.run === fault.run);
          return (
            <li key={fault.run}>
              {fault.type} in {fault.pods} {fault.pods === 1 ? "pod" : "pods"}
              {experiment && `, by ${experiment.name}`}
              {experiment?.endsAt && (
                <strong className="countdown">{until(experiment.endsAt, now)} left</strong>
              )}
            </li>
          );
        })}
      </ul>
    </Notice>
  );
}

/** What was remembered before this page was opened, and what came since; and how the question for the former stands. */
export function useMoments(namespace: string, name: string): { moments: Moment[]; asked: { error: Error | null; isPending: boolean } } {
  const { known } = useLive();
  const before = useQuery({
    queryKey: ["moments", namespace, name],
    queryFn: ({ signal }) => get<Moments>(`/api/services/${namespace}/${name}/moments`, signal),
    staleTime: Number.POSITIVE_INFINITY,
    // Who was away meanwhile has not heard what came since: it is asked for again.
    gcTime: 0,
  });
  const since = useRef<{ of: string; moments: Moment[] }>({ of: "", moments: [] });
  const vitals = vitalsOf(known, namespace, name);
  const moments = useMemo(() => {
    const of = `${namespace}/${name}`;
    if (since.current.of !== of) since.current = { of, moments: [] };
    const own = since.current;
    if (vitals && own.moments.at(-1)?.at !== vitals.at) own.moments = [...own.moments.slice(-119), vitals];
    const first = own.moments[0]?.at ?? "";
    const old = (before.data?.moments ?? []).filter((moment) => !first || moment.at < first);
    return [...old, ...own.moments].slice(-120);
  }, [namespace, name, vitals, before.data]);
  return { moments, asked: before };
}

function Latency({ namespace, name }: { namespace: string; name: string }) {
  const { moments, asked } = useMoments(namespace, name);
  const { known } = useLive();
  const experiment = all(known, "ChaosExperiment")
    .filter((experiment) => experiment.namespace === namespace && experiment.target === name && experiment.injectedAt)
    .sort((one, other) => (other.injectedAt ?? "").localeCompare(one.injectedAt ?? ""))[0];
  const times = useMemo(() => moments.map((moment) => Date.parse(moment.at) / 1000), [moments]);
  const lines = useMemo(
    () => [
      { label: "mean", colour: "--good", values: moments.map((moment) => moment.mean ?? null) },
      { label: "p95", colour: "--busy", values: moments.map((moment) => moment.p95 ?? null) },
      { label: "p99", colour: "--warn", values: moments.map((moment) => moment.p99 ?? null) },
    ],
    [moments],
  );
  const from = experiment?.injectedAt;
  const to = experiment?.faultEndedAt ?? experiment?.endsAt;
  const fault = useMemo<[number, number] | undefined>(
    () => (from ? [Date.parse(from) / 1000, (to ? Date.parse(to) : Date.now()) / 1000] : undefined),
    [from, to],
  );
  return (
    <Panel title="Latency, half a minute each" aside={fault && <Badge tone="fault">shaded: the last fault</Badge>}>
      <Failure error={asked.error} />
      {moments.length < 2 && asked.isPending ? (
        <Loading />
      ) : moments.length < 2 ? (
        !asked.error && <Notice title="Nothing to draw yet.">Pods are asked every five seconds while somebody looks.</Notice>
      ) : (
        <Chart title="Latency" times={times} lines={lines} format={seconds} fault={fault} />
      )}
    </Panel>
  );
}

function Reports({ namespace, name }: { namespace: string; name: string }) {
  const pods = useQuery({
    queryKey: ["pods", namespace, name],
    queryFn: ({ signal }) => get<Pods>(`/api/services/${namespace}/${name}/pods`, signal),
    refetchInterval: 3_000,
  });
  return (
    <Panel title="Pods, in their own words">
      <Failure error={pods.error} />
      {pods.isPending && <Loading />}
      {pods.data?.pods.length === 0 && <Notice title="There is no pod." />}
      <div className="cards">
        {pods.data?.pods.map((report) => <PodCard key={report.pod.name} report={report} />)}
      </div>
    </Panel>
  );
}

function PodCard({ report: { pod, report, error } }: { report: PodReport }) {
  const now = useNow();
  return (
    <article className="card">
      <header>
        <h3>{pod.name}</h3>
        <Badge tone={pod.ready ? "good" : "warn"}>{pod.ready ? "ready" : pod.phase || "not ready"}</Badge>
      </header>
      <p className="faint">
        for {age(pod.since, now)}, {pod.restarts} {pod.restarts === 1 ? "restart" : "restarts"}
        {pod.node && `, on ${pod.node}`}
      </p>
      {error && <p className="failure">{error}</p>}
      {report && (
        <dl>
          <dt>Policy</dt>
          <dd>
            {report.policy.hash ? <code>{report.policy.hash.slice(0, 12)}</code> : "compiled-in defaults"}
            {report.policy.loadedAt && `, for ${age(report.policy.loadedAt, now)}`}
            {report.policy.error && <span className="failure">{report.policy.error}</span>}
          </dd>
          {report.circuitBreakers?.map((breaker) => (
            <Pair key={`${breaker.target}/${breaker.host ?? ""}`} title={`Breaker ${breaker.target}`}>
              <Badge tone={breaker.state === "Closed" ? "good" : breaker.state === "Open" ? "bad" : "warn"}>
                {breaker.state}
              </Badge>{" "}
              {breaker.failures ?? 0} of {breaker.calls ?? 0} failed
              {breaker.nextProbeAt && `, probe in ${until(breaker.nextProbeAt, now)}`}
            </Pair>
          ))}
          {report.limits?.map((limit) => (
            <Pair key={`${limit.kind}/${limit.name}`} title={`${limit.kind} ${limit.name}`}>
              {limit.inUse ?? 0} of {limit.limit}, {limit.refused ?? 0} refused
              {limit.degraded && <Badge tone="warn">local share</Badge>}
            </Pair>
          ))}
          {report.faults?.map((fault) => (
            <Pair key={`${fault.run}/${fault.type}`} title={`Fault ${fault.type}`}>
              {fault.state}
              {fault.state === "Active" && <strong className="countdown">{Math.ceil((fault.remainingMs ?? 0) / 1000)} s left</strong>}
              {fault.reason && `, ${fault.reason}`}
            </Pair>
          ))}
        </dl>
      )}
    </article>
  );
}

const Pair = ({ title, children }: { title: string; children: React.ReactNode }) => (
  <>
    <dt>{title}</dt>
    <dd>{children}</dd>
  </>
);
