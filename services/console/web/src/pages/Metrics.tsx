import { useMemo } from "react";
import type { Vitals } from "../api/types";
import { useLive } from "../live/live";
import { Chart } from "../parts/Chart";
import { Near } from "../parts/near";
import { Asked, Failure, Notice, Panel, Shown } from "../parts/parts";
import { bytes, percent, rate, seconds } from "../parts/words";
import { ServiceLink } from "./Overview";
import { useMoments } from "./Service";

/** About the height of a service's panel. Unit: pixels. */
const HEIGHT = 260;

export function Metrics() {
  const { known } = useLive();
  return (
    <>
      <h1>Metrics</h1>
      <Shown
        kind="ResilientService"
        empty={
          known.vitals.length === 0 ? (
            <Notice title="No pod has been asked yet.">Pods are asked every five seconds while somebody looks.</Notice>
          ) : null
        }
      >
        {known.vitals.map((vitals) => (
          <Near key={`${vitals.namespace}/${vitals.name}`} height={HEIGHT}>
            <One vitals={vitals} />
          </Near>
        ))}
      </Shown>
    </>
  );
}

function One({ vitals }: { vitals: Vitals }) {
  const { moments, asked } = useMoments(vitals.namespace, vitals.name);
  const times = useMemo(() => moments.map((moment) => Date.parse(moment.at) / 1000), [moments]);
  const lines = useMemo(
    () => [{ label: "requests", colour: "--busy", values: moments.map((moment) => moment.rate ?? null) }],
    [moments],
  );
  return (
    <Panel
      title={
        <>
          <ServiceLink namespace={vitals.namespace} name={vitals.name} /> <small>{vitals.namespace}</small>
        </>
      }
      aside={
        <span className="faint">
          {rate(vitals.rate)}, {percent(vitals.errors)} 5xx, p50 {seconds(vitals.p50)}, p95 {seconds(vitals.p95)}, p99{" "}
          {seconds(vitals.p99)}, <Asked at={vitals.at} words="measured" />
        </span>
      }
    >
      <div className="split">
        <div className="wide">
          <table>
            <thead>
              <tr>
                <th>Pod</th>
                <th className="number">CPU</th>
                <th className="number">Memory</th>
                <th className="number">Threads</th>
                <th className="number">Uptime</th>
              </tr>
            </thead>
            <tbody>
              {vitals.pods.map((pod) => (
                <tr key={pod.pod}>
                  <th scope="row" data-label="Pod">{pod.pod}</th>
                  {pod.answered ? (
                    <>
                      <td data-label="CPU" className="number">{percent(pod.cpu)}</td>
                      <td data-label="Memory" className="number">{bytes(pod.memory)}</td>
                      <td data-label="Threads" className="number">{pod.threads ?? "–"}</td>
                      <td data-label="Uptime" className="number">{uptime(pod.uptime)}</td>
                    </>
                  ) : (
                    <td colSpan={4} className="faint">does not answer on its report port</td>
                  )}
                </tr>
              ))}
            </tbody>
          </table>
          {vitals.pods.length === 0 && !vitals.leftOut && <Notice title="There is no pod." />}
          {vitals.leftOut && <Notice tone="warn" title="Not every pod is shown.">{vitals.leftOut}.</Notice>}
          {vitals.guarded && vitals.pods.length > 0 && <p className="faint">CPU, memory, threads and uptime are those of the guard in each pod.</p>}
        </div>
        <Failure error={asked.error} />
        {moments.length > 1 && <Chart title="Requests per second" times={times} lines={lines} format={rate} />}
      </div>
    </Panel>
  );
}

function uptime(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  const minutes = Math.floor(value / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
