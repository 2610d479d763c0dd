import { Link, useNavigate } from "@tanstack/react-router";
import { type FormEvent, useId, useState } from "react";
import type { Backup, Policy, Restore } from "../api/types";
import { useLive, useNow } from "../live/live";
import { all } from "../live/reducer";
import { AsOf, Failure, Notice, Panel, Shown, Word } from "../parts/parts";
import { Labelled } from "../parts/SchemaForm";
import type { Json } from "../parts/schema";
import { age } from "../parts/words";
import { useCreation } from "./creation";
import { freshName } from "./presets";
import { PHASES, took } from "./Restore";

/** A Restore's name is part of its Job's. */
const LONGEST_NAME = 52;

export function Restores() {
  const { known } = useLive();
  const restores = all(known, "Restore").sort(
    (one, other) => Number(one.over) - Number(other.over) || (other.createdAt ?? "").localeCompare(one.createdAt ?? ""),
  );
  return (
    <Panel title="Restores" aside={<AsOf kind="Restore" />}>
      <Shown
        kind="Restore"
        empty={
          restores.length === 0 ? (
            <Notice title="Nothing was given back yet.">Restores that kubectl creates appear here too.</Notice>
          ) : null
        }
      >
        <div className="wide">
          <table>
            <thead>
              <tr>
                <th>Restore</th>
                <th>Archive</th>
                <th>Into</th>
                <th>Phase</th>
                <th className="number">Tables</th>
                <th className="number">Took</th>
                <th className="number">When</th>
                <th>Why</th>
              </tr>
            </thead>
            <tbody>
              {restores.map((restore) => (
                <Row key={`${restore.namespace}/${restore.name}`} restore={restore} />
              ))}
            </tbody>
          </table>
        </div>
      </Shown>
    </Panel>
  );
}

function Row({ restore }: { restore: Restore }) {
  const now = useNow();
  const step = PHASES.findIndex(([phase]) => phase === restore.phase);
  const names = restore.databases.map((database) => database.target).join(", ");
  return (
    <tr>
      <th scope="row" data-label="Restore">
        <Link to="/restores/$namespace/$name" params={{ namespace: restore.namespace, name: restore.name }}>
          {restore.name}
        </Link>
        <small>{restore.namespace}</small>
      </th>
      <td data-label="Archive">
        {restore.slot ?? restore.archive ?? "–"} <small>{restore.policy}</small>
      </td>
      <td data-label="Into">
        {names || "all"} <small>{restore.mode === "ReplaceDatabase" ? "in its place" : "new"}</small>
      </td>
      <td data-label="Phase">
        <Word word={restore.phase} />{" "}
        {!restore.over && step >= 0 && (
          <meter min={0} max={PHASES.length - 1} value={step} aria-label={`step ${step} of ${PHASES.length - 1}`} />
        )}
      </td>
      <td data-label="Tables" className="number">{restore.tables ?? "–"}</td>
      <td data-label="Took" className="number">{took(restore, now)}</td>
      <td data-label="When" className="number">{age(restore.createdAt, now)} ago</td>
      <td data-label="Why" className="long">{restore.message || restore.reason || "–"}</td>
    </tr>
  );
}

/** What the form holds, as it was typed. */
export interface Asked {
  archive: string;
  database: string;
  replace: boolean;
  as: string;
  secret: string;
  admin: string;
  confirm: string;
  keep: string;
}

/** The spec of a Restore. What is wrong with it is for the API server to say. */
export function restoreSpec(policy: string, asked: Asked): Record<string, Json> {
  const day = /^\d/.test(asked.archive);
  const name = (value: string) => ({ name: value.trim() });
  return {
    source: { policyRef: name(policy), select: day ? "Slot" : asked.archive, ...(day ? { slot: asked.archive } : {}) },
    target: {
      connectionSecretRef: name(asked.secret),
      ...(asked.admin.trim() ? { adminSecretRef: name(asked.admin) } : {}),
    },
    ...(asked.database ? { databases: [{ name: asked.database, ...(asked.as.trim() ? { as: asked.as.trim() } : {}) }] } : {}),
    mode: asked.replace ? "ReplaceDatabase" : "NewDatabase",
    ...(asked.replace
      ? { replace: { confirm: asked.confirm.trim(), ...(asked.keep.trim() ? { keepPrevious: asked.keep.trim() } : {}) } }
      : {}),
  };
}

/** Asks for databases of a policy's archive. */
export function RestoreForm({ policy, days }: { policy: Policy; days: Backup[] }) {
  const stored = days.filter((day) => day.phase === "Completed");
  const [asked, setAsked] = useState<Asked>({
    archive: "Latest",
    database: "",
    replace: false,
    as: "",
    secret: policy.secrets[0] ?? "",
    admin: "",
    confirm: "",
    keep: "",
  });
  const navigate = useNavigate();
  const creation = useCreation("/api/restores", ({ namespace, name }) =>
    navigate({ to: "/restores/$namespace/$name", params: { namespace, name } }),
  );
  const secrets = useId();
  const set = (change: Partial<Asked>) => setAsked({ ...asked, ...change });
  const wanted = () => ({
    namespace: policy.namespace,
    name: freshName(policy.name, "restore", new Date(), LONGEST_NAME),
    spec: restoreSpec(policy.name, asked),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    creation.create(wanted());
  };
  const living = asked.as.trim() || asked.database;
  const wrong = creation.errors;
  return (
    <form onSubmit={submit} noValidate>
      <div className="fields">
        <Labelled label="Archive" error={wrong["source.slot"]}>
          {(attributes) => (
            <select {...attributes} value={asked.archive} onChange={(event) => set({ archive: event.target.value })}>
              <option value="Latest">the newest</option>
              <option value="LatestVerified">the newest that a trial restore has verified</option>
              {stored.map((day) => (
                <option key={day.slot} value={day.slot}>
                  {day.slot}
                  {day.verified ? `, ${day.verified.toLowerCase()}` : ""}
                </option>
              ))}
            </select>
          )}
        </Labelled>
        <Labelled label="Databases" error={wrong["databases"]} help={asked.replace ? "One at a time." : "Each comes back under its name unless you give it another."}>
          {(attributes) => (
            <select {...attributes} value={asked.database} onChange={(event) => set({ database: event.target.value })}>
              <option value="">all of the archive</option>
              {policy.databases.map((database) => (
                <option key={database}>{database}</option>
              ))}
            </select>
          )}
        </Labelled>
        <Labelled
          label="Into"
          error={wrong["mode"]}
          help={asked.replace ? "The living database is closed, kept aside under another name and dropped later." : "Nothing that is there is touched; a name that exists is refused."}
        >
          {(attributes) => (
            <select
              {...attributes}
              value={asked.replace ? "ReplaceDatabase" : "NewDatabase"}
              onChange={(event) => set({ replace: event.target.value === "ReplaceDatabase" })}
            >
              <option value="NewDatabase">new databases</option>
              <option value="ReplaceDatabase">the place of the living one</option>
            </select>
          )}
        </Labelled>
        {asked.database && (
          <Labelled label="Name on the server" help="Empty: as in the archive." error={wrong["databases[0].as"]}>
            {(attributes) => <input {...attributes} spellCheck={false} value={asked.as} onChange={(event) => set({ as: event.target.value })} />}
          </Labelled>
        )}
        <Labelled label="Secret of the server" help="Its role must be allowed to create databases." error={wrong["target.connectionSecretRef.name"]} required>
          {(attributes) => (
            <input {...attributes} list={secrets} spellCheck={false} value={asked.secret} onChange={(event) => set({ secret: event.target.value })} />
          )}
        </Labelled>
        <Labelled
          label="Secret of an administrator"
          help={asked.replace ? "Of the same server: who may create databases and end sessions." : "Only where the role above may not create databases."}
          error={wrong["target.adminSecretRef.name"] ?? wrong["target.adminSecretRef"]}
          required={asked.replace}
        >
          {(attributes) => (
            <input {...attributes} list={secrets} spellCheck={false} value={asked.admin} onChange={(event) => set({ admin: event.target.value })} />
          )}
        </Labelled>
        {asked.replace && (
          <>
            <Labelled
              label="Repeat the name of the database that is replaced"
              help={living ? "Its sessions are ended, and what was written since the backup is in the one that is kept aside." : "Choose one database first."}
              error={wrong["replace.confirm"]}
              required
            >
              {(attributes) => (
                <input {...attributes} autoComplete="off" spellCheck={false} value={asked.confirm} onChange={(event) => set({ confirm: event.target.value })} />
              )}
            </Labelled>
            <Labelled label="Keep the old one for" help="From 1h to 2160h." error={wrong["replace.keepPrevious"]}>
              {(attributes) => (
                <input {...attributes} placeholder="168h" spellCheck={false} value={asked.keep} onChange={(event) => set({ keep: event.target.value })} />
              )}
            </Labelled>
          </>
        )}
      </div>
      <datalist id={secrets}>
        {policy.secrets.map((secret) => (
          <option key={secret} value={secret} />
        ))}
      </datalist>
      <div className="actions">
        <button type="submit" className={asked.replace ? "danger" : "primary"} disabled={creation.pending}>
          {asked.replace ? `Replace ${living || "the database"}` : "Restore"}
        </button>
        <button type="button" disabled={creation.pending} onClick={() => creation.check(wanted())}>
          Check
        </button>
        <span role="status" className="faint">
          {creation.accepted ? "The API server would accept it. Nothing was written." : ""}
        </span>
      </div>
      <Failure error={creation.error} />
    </form>
  );
}
