import { useMutation } from "@tanstack/react-query";
import { post } from "../api/client";
import type { Backup, Policy } from "../api/types";
import { useLive, useNow } from "../live/live";
import { all } from "../live/reducer";
import { AsOf, Failure, Notice, Panel, Shown, Word } from "../parts/parts";
import { bytes, clock, until } from "../parts/words";
import { Calendar } from "./Calendar";
import { RestoreForm, Restores } from "./Restores";
import { Tile } from "./Service";

export function Backups() {
  const { known } = useLive();
  const policies = all(known, "BackupPolicy");
  return (
    <>
      <h1>Backups</h1>
      <Shown
        kind="BackupPolicy"
        empty={
          policies.length === 0 ? (
            <Notice title="There is no BackupPolicy yet.">
              Create one, as in <code>examples/backup-daily.yaml</code>: its days appear here by themselves.
            </Notice>
          ) : null
        }
      >
        {policies.map((policy) => (
          <One key={`${policy.namespace}/${policy.name}`} policy={policy} />
        ))}
      </Shown>
      <Restores />
    </>
  );
}

/** What came of the run, and before that what came of the trial that its archive failed. */
function why({ verified, trial, message, reason }: Backup): string {
  const failed = verified === "Failed" && `restored on trial: ${trial || "it could not be restored"}`;
  return [failed, message || reason].filter(Boolean).join("; ") || "–";
}

function One({ policy }: { policy: Policy }) {
  const { known, session } = useLive();
  const now = useNow();
  const days = all(known, "Backup")
    .filter((backup) => backup.namespace === policy.namespace && backup.policy === policy.name)
    .sort((one, other) => other.slot.localeCompare(one.slot));
  const largest = Math.max(1, ...days.map((backup) => backup.bytes ?? 0));
  const run = useMutation({
    mutationFn: () => post(`/api/policies/${policy.namespace}/${policy.name}/run`),
  });
  const wrong = policy.conditions.filter(
    (condition) =>
      (condition.type === "Stale" && condition.status === "True") ||
      (["Ready", "Scheduled", "LastBackupSucceeded", "Verified", "RetentionHealthy"].includes(condition.type) && condition.status === "False"),
  );
  return (
    <Panel
      title={
        <>
          {policy.name} <small>{policy.namespace}</small>
        </>
      }
      aside={<AsOf kind="Backup" />}
    >
      {wrong.map((condition) => (
        <Notice key={condition.type} tone="bad" title={`${condition.type}: ${condition.reason}`}>
          {condition.message}
        </Notice>
      ))}
      <div className="tiles">
        <Tile title="Schedule">{policy.suspended ? "suspended" : policy.schedule}</Tile>
        <Tile title="Next run">{policy.nextRunAt ? `in ${until(policy.nextRunAt, now)}` : "–"}</Tile>
        <Tile title="Newest archive">{policy.lastSuccess ?? "none yet"}</Tile>
        <Tile title="Size">{policy.size || "–"}</Tile>
        <Tile title="Databases">{policy.databases.length}</Tile>
      </div>
      {session?.user && (
        <div className="actions">
          <button type="button" disabled={run.isPending} onClick={() => run.mutate()}>
            Run today's backup now
          </button>
          <span className="faint">{policy.lastRun ?? "A day has one archive: where it is stored, nothing is started."}</span>
          <Failure error={run.error} />
        </div>
      )}
      {session?.user && (
        <details>
          <summary>Give databases back</summary>
          <RestoreForm policy={policy} days={days} />
        </details>
      )}
      <Calendar policy={policy} days={days} />
      {days.length === 0 ? (
        <Notice title="No day has a record yet." />
      ) : (
        <div className="wide">
          <table>
            <thead>
              <tr>
                <th>Day</th>
                <th>Phase</th>
                <th>Verified</th>
                <th>Size</th>
                <th>Due</th>
                <th>Done</th>
                <th>Why</th>
              </tr>
            </thead>
            <tbody>
              {days.map((backup) => (
                <tr key={backup.name}>
                  <th scope="row" data-label="Day">{backup.slot}</th>
                  <td data-label="Phase"><Word word={backup.phase} /></td>
                  <td data-label="Verified"><Word word={backup.verified} /></td>
                  <td data-label="Size" title={backup.sha256 ? `sha256 ${backup.sha256}` : ""}>
                    <meter min={0} max={largest} value={backup.bytes ?? 0} aria-label="size" />{" "}
                    {backup.size ?? bytes(backup.bytes)}
                  </td>
                  <td data-label="Due">{clock(backup.scheduledAt)}</td>
                  <td data-label="Done">{clock(backup.completedAt)}</td>
                  <td data-label="Why" className="long">
                    {why(backup)}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}
