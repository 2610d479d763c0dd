import { type KeyboardEvent, useId, useRef, useState } from "react";
import type { Backup, Policy } from "../api/types";
import { useNow } from "../live/live";
import { Notice, Word } from "../parts/parts";
import { age, bytes, clock } from "../parts/words";
import { type Day, STATES, type State, dayInWords, today, weeks } from "./days";

const WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/** By how many days a key leads away. */
const STEPS: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -7, ArrowDown: 7 };

/** What became of each day of about a month. One stop of the tabulator: from day to day the arrows lead. */
export function Calendar({ policy, days }: { policy: Policy; days: readonly Backup[] }) {
  // What day it is does not change by the second.
  const now = useNow(30_000);
  const todays = today(policy.schedule, now);
  const rows = weeks(days, todays);
  const all = rows.flat();
  const [chosen, choose] = useState<string | null>(null);
  const [reached, reach] = useState<string | null>(null);
  const buttons = useRef(new Map<string, HTMLButtonElement>());
  const shown = useId();
  const stop = all.some((day) => day.slot === reached) ? reached : todays;
  const seen = new Set(all.map((day) => day.state));
  const move = (event: KeyboardEvent, index: number) => {
    const step = STEPS[event.key];
    const at = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : step === undefined ? undefined : index + step;
    if (at === undefined) return;
    event.preventDefault();
    const next = all[at];
    if (!next) return;
    reach(next.slot);
    buttons.current.get(next.slot)?.focus();
  };
  const day = all.find((day) => day.slot === chosen);
  return (
    <div className="calendar">
      <div role="grid" aria-label={`Days of ${policy.name}`}>
        <div role="row">
          {WEEKDAYS.map((weekday) => (
            <span key={weekday} role="columnheader">
              <abbr title={weekday}>{weekday.slice(0, 2)}</abbr>
            </span>
          ))}
        </div>
        {rows.map((week, row) => (
          <div key={week[0]?.slot} role="row">
            {week.map((day, column) => (
              <span key={day.slot} role="gridcell">
                <button
                  type="button"
                  ref={(button) => {
                    if (button) buttons.current.set(day.slot, button);
                    else buttons.current.delete(day.slot);
                  }}
                  className={`day ${day.state}`}
                  tabIndex={day.slot === stop ? 0 : -1}
                  aria-label={`${dayInWords(day.slot)}: ${STATES[day.state].meaning}`}
                  aria-pressed={day.slot === chosen}
                  aria-controls={shown}
                  {...(day.slot === todays ? { "aria-current": "date" as const } : {})}
                  onFocus={() => reach(day.slot)}
                  onKeyDown={(event) => move(event, 7 * row + column)}
                  onClick={() => choose(day.slot === chosen ? null : day.slot)}
                >
                  <span className="date">{Number(day.slot.slice(8))}</span> <span className="sign">{STATES[day.state].sign}</span>{" "}
                  <span className="word">{STATES[day.state].word}</span>
                </button>
              </span>
            ))}
          </div>
        ))}
      </div>
      <div className="beside">
        <ul className="bare meanings">
          {(Object.keys(STATES) as State[]).filter((state) => seen.has(state) && state !== "ahead").map((state) => (
            <li key={state}>
              <i className={`day ${state}`} aria-hidden="true">{STATES[state].sign}</i> {STATES[state].word && <strong>{STATES[state].word}</strong>} {STATES[state].meaning}
            </li>
          ))}
        </ul>
        <div id={shown} aria-live="polite">
          {day ? <Chosen day={day} /> : <p className="faint">Choose a day to see its record.</p>}
        </div>
      </div>
    </div>
  );
}

function Chosen({ day }: { day: Day }) {
  return (
    <>
      <h3>{dayInWords(day.slot)}</h3>
      {day.records.length === 0 && <Notice title="There is no record of this day.">{STATES[day.state].meaning[0]?.toUpperCase()}{STATES[day.state].meaning.slice(1)}.</Notice>}
      {day.records.map((record) => (
        <dl key={record.name}>
          <dt>Record</dt>
          <dd>{record.name}</dd>
          <dt>Phase</dt>
          <dd><Word word={record.phase} /></dd>
          <dt>Verified</dt>
          <dd><Word word={record.verified} /> {record.trial}</dd>
          <dt>Due</dt>
          <dd>{clock(record.scheduledAt)}</dd>
          <dt>Done</dt>
          <dd>
            {clock(record.completedAt)}
            {record.startedAt && record.completedAt && <small> after {age(record.startedAt, Date.parse(record.completedAt))}</small>}
          </dd>
          <dt>Size</dt>
          <dd>{record.size ?? bytes(record.bytes)}</dd>
          {record.sha256 && (
            <>
              <dt>sha256</dt>
              <dd><code>{record.sha256}</code></dd>
            </>
          )}
          {(record.message || record.reason) && (
            <>
              <dt>Why</dt>
              <dd>{record.message || record.reason}</dd>
            </>
          )}
        </dl>
      ))}
    </>
  );
}
