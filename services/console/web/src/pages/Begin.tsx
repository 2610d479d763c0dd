import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { get } from "../api/client";
import type { SpecSchema } from "../api/types";
import { useLive } from "../live/live";
import { all } from "../live/reducer";
import { Failure, Loading, Panel } from "../parts/parts";
import { Fields, Labelled, SchemaField } from "../parts/SchemaForm";
import { type Json, type Schema, field, put } from "../parts/schema";
import { spaced } from "../parts/words";
import { useCreation } from "./creation";
import { PRESETS, begun, freshName } from "./presets";

/** What stands outside of "More": the rest of the spec is there. */
const FIRST = ["count", "duration", "schedule", "dryRun"];

/** Buttons that begin an experiment, and the form for one of one's own. */
export function Begin() {
  const { known } = useLive();
  const services = all(known, "ResilientService");
  const navigate = useNavigate();
  const creation = useCreation("/api/experiments", ({ namespace, name }) =>
    navigate({ to: "/chaos/$namespace/$name", params: { namespace, name } }),
  );
  return (
    <Panel title="Begin">
      <div className="presets">
        {PRESETS.flatMap((preset) => {
          const named = services.filter((service) => service.name === preset.target);
          const targets = named.filter((service) => service.chaosAllowed);
          if (targets.length === 0)
            return [
              <button key={preset.title} type="button" disabled>
                <strong>{preset.title}</strong>
                <small>{named.length > 0 ? `${preset.target} does not allow chaos.` : `There is no service ${preset.target} here.`}</small>
              </button>,
            ];
          // One for each namespace, by its name: whom a button hurts is not for the alphabet to choose.
          return targets.map(({ namespace }) => (
            <button
              key={`${preset.title}/${namespace}`}
              type="button"
              disabled={creation.pending}
              onClick={() =>
                creation.create({
                  namespace,
                  name: freshName(preset.target, preset.fault, new Date()),
                  spec: { target: { service: preset.target }, ...preset.spec },
                })
              }
            >
              <strong>{preset.title}</strong>
              <small>
                In {namespace}. {preset.explanation}
              </small>
            </button>
          ));
        })}
        <Link to="/orders" className="button">
          <strong>Trigger gremlin</strong>
          <small>An order whose stock is counted five seconds late, on the page of orders.</small>
        </Link>
      </div>
      <details>
        <summary>An experiment of your own</summary>
        <Own creation={creation} />
      </details>
      <Failure error={creation.error} />
    </Panel>
  );
}

/** The form, as the schema of the kind has its fields. */
function Own({ creation }: { creation: ReturnType<typeof useCreation> }) {
  const { known } = useLive();
  const schema = useQuery({
    queryKey: ["schema", "ChaosExperiment"],
    queryFn: ({ signal }) => get<SpecSchema>("/api/schemas/ChaosExperiment", signal),
    staleTime: Number.POSITIVE_INFINITY,
  });
  const services = all(known, "ResilientService").filter((service) => service.chaosAllowed);
  const [target, setTarget] = useState("");
  const [fault, setFault] = useState("latency");
  const [spec, setSpec] = useState<Json | undefined>(begun("latency"));
  if (schema.isPending) return <Loading />;
  if (schema.error) return <Failure error={schema.error} />;
  const whole = schema.data.spec as Schema;
  const faults = schema.data.oneOf;
  const of = (name: string): Schema => whole.properties?.[name] ?? {};
  const chosen = services.find((service) => `${service.namespace}/${service.name}` === target) ?? services[0];
  const set = (name: string, value: Json | undefined) => setSpec((spec) => put(spec, name, value));
  const choose = (name: string) => {
    setFault(name);
    setSpec(begun(name));
  };
  const wanted = chosen && {
    namespace: chosen.namespace,
    name: freshName(chosen.name, fault, new Date()),
    spec: {
      ...(spec as Record<string, Json>),
      [fault]: field(spec, fault) ?? {},
      target: { ...((field(spec, "target") ?? {}) as Record<string, Json>), service: chosen.name },
    },
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (wanted) creation.create(wanted);
  };
  const shared = { errors: creation.errors };
  return (
    // The API server says what is wrong, in one voice with kubectl.
    <form onSubmit={submit} noValidate>
      <div className="fields">
        <Labelled label="Service" help="Those that allow chaos." error={creation.errors["target.service"]}>
          {(attributes) => (
            <select {...attributes} value={target} onChange={(event) => setTarget(event.target.value)}>
              {services.map((service) => (
                <option key={`${service.namespace}/${service.name}`} value={`${service.namespace}/${service.name}`}>
                  {service.name} in {service.namespace}
                </option>
              ))}
            </select>
          )}
        </Labelled>
        <Labelled label="Fault" help={of(fault).description?.split(" Default: ")[0]}>
          {(attributes) => (
            <select {...attributes} value={fault} onChange={(event) => choose(event.target.value)}>
              {faults.map((fault) => (
                <option key={fault} value={fault}>
                  {spaced(fault)}
                </option>
              ))}
            </select>
          )}
        </Labelled>
        <Fields
          key={fault}
          path={fault}
          schema={of(fault)}
          value={field(spec, fault)}
          set={(value) => set(fault, value)}
          {...shared}
        />
        {FIRST.map((name) => (
          <SchemaField
            key={`${fault}/${name}`}
            path={name}
            label={LABELS[name] ?? name}
            schema={of(name)}
            value={field(spec, name)}
            set={(value) => set(name, value)}
            {...shared}
          />
        ))}
      </div>
      <details className="group">
        <summary>More: steady state, safety, target, schedule</summary>
        <div className="fields" key={fault}>
          <Fields
            path=""
            schema={whole}
            value={spec}
            set={setSpec}
            without={[...faults, ...FIRST, "desired", "target"]}
            {...shared}
          />
          <Fields
            path="target"
            schema={of("target")}
            value={field(spec, "target")}
            set={(value) => set("target", value)}
            without={["service"]}
            {...shared}
          />
        </div>
      </details>
      <div className="actions">
        <button type="submit" className="primary" disabled={!wanted || creation.pending}>
          Begin
        </button>
        <button type="button" disabled={!wanted || creation.pending} onClick={() => wanted && creation.check(wanted)}>
          Check
        </button>
        <span role="status" className="faint">
          {creation.accepted ? "The API server would accept it. Nothing was written." : ""}
        </span>
        {services.length === 0 && <span className="faint">No service allows chaos.</span>}
      </div>
    </form>
  );
}

const LABELS: Record<string, string> = { count: "Pods", duration: "Duration", schedule: "Schedule", dryRun: "Dry run" };
