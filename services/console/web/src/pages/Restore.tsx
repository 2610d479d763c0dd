import { useParams } from "@tanstack/react-router";
import type { Restore } from "../api/types";
import { useLive, useNow } from "../live/live";
import { one } from "../live/reducer";
import { AsOf, Badge, Notice, Panel, Shown, Word } from "../parts/parts";
import { age, bytes, clock } from "../parts/words";
import { Happened } from "./Events";
import { Tile } from "./Service";

/** The phases of a restore that goes well, and what is done in each. */
export const PHASES = [
  ["Pending", "no runner has begun"],
  ["Fetching", "the archive is copied to scratch"],
  ["Checking", "archive and server are held against the plan"],
  ["Restoring", "under names of their own, and compared"],
  ["Swapping", "the restored databases get their names"],
  ["Completed", "everything is in its place"],
] as const;

export function RestorePage() {
  const { namespace, name } = useParams({ from: "/restores/$namespace/$name" });
  const { known } = useLive();
  const restore = one(known, "Restore", namespace, name);
  const missing = <Notice title={`There is no restore ${name} in ${namespace} that you may see.`} />;
  return (
    <>
      <h1>
        {name} <small>{namespace}</small>
      </h1>
      <Shown kind="Restore" empty={restore ? null : missing}>
        {restore && <Detail restore={restore} />}
      </Shown>
    </>
  );
}

/** How long it works, or worked. */
export function took(restore: Restore, now: number): string {
  if (!restore.startedAt) return "–";
  return age(restore.startedAt, restore.completedAt ? Date.parse(restore.completedAt) : now);
}

function Detail({ restore }: { restore: Restore }) {
  const now = useNow();
  return (
    <>
      <p className="lead">
        <Word word={restore.phase} /> <strong>{restore.reason}</strong> {restore.message}
      </p>
      <div className="tiles">
        <Tile title="Archive">{restore.slot ?? restore.archive ?? "not chosen yet"}</Tile>
        <Tile title="Policy">{restore.policy ?? "–"}</Tile>
        <Tile title="Into">{restore.mode === "ReplaceDatabase" ? "the place of the living one" : "new databases"}</Tile>
        <Tile title="Tables compared">{restore.tables ?? "–"}</Tile>
        <Tile title={restore.over ? "Took" : "For"}>{took(restore, now)}</Tile>
      </div>
      <Panel title="Progress" aside={<AsOf kind="Restore" />}>
        <Progress restore={restore} />
      </Panel>
      <Panel title="Databases">
        <div className="wide">
          <table>
            <thead>
              <tr>
                <th>In the archive</th>
                <th>On the server</th>
                <th>Phase</th>
                <th className="number">Tables</th>
                <th className="number">Size</th>
                <th className="number">Took</th>
                <th>Kept aside</th>
                <th>Note</th>
              </tr>
            </thead>
            <tbody>
              {restore.databases.map((database) => (
                <tr key={database.name}>
                  <th scope="row" data-label="In the archive">{database.name}</th>
                  <td data-label="On the server">{database.target}</td>
                  <td data-label="Phase"><Word word={database.phase} /></td>
                  <td data-label="Tables" className="number">{database.tables ?? "–"}</td>
                  <td data-label="Size" className="number">{bytes(database.bytes)}</td>
                  <td data-label="Took" className="number">{database.seconds === null || database.seconds === undefined ? "–" : `${database.seconds} s`}</td>
                  <td data-label="Kept aside">
                    {database.previous ? (
                      <>
                        <code>{database.previous}</code> <small>until {clock(database.previousUntil)}</small>
                      </>
                    ) : (
                      "–"
                    )}
                  </td>
                  <td data-label="Note" className="long">{database.note ?? "–"}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
        {restore.databases.length === 0 && <Notice title="All of the archive; which that is, is known once it has been read." />}
      </Panel>
      <Happened namespace={restore.namespace} name={restore.name} />
    </>
  );
}

/** Where it stands among the phases; one that failed stands at none, and says why above. */
function Progress({ restore }: { restore: Restore }) {
  const at = PHASES.findIndex(([phase]) => phase === restore.phase);
  if (at < 0)
    return (
      <Notice tone={restore.phase === "Failed" ? "bad" : "plain"} title={restore.phase || "Not seen by the operator yet."}>
        {restore.phase === "Failed" && "Nothing was changed, or everything was put back."}
      </Notice>
    );
  return (
    <ol className="timeline">
      {PHASES.map(([phase, meaning], index) => (
        <li key={phase} className={index <= at ? "done" : ""} {...(index === at ? { "aria-current": "step" as const } : {})}>
          <strong>{phase}</strong>
          {index === at && !restore.over && <Badge tone="busy">now</Badge>}
          <small>{meaning}</small>
        </li>
      ))}
    </ol>
  );
}
