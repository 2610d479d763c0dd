/** Small things that every page is made of. */
import { Fragment, type ReactNode } from "react";
import type { Kind, Light as Colour } from "../api/types";
import { stream } from "../live/reducer";
import { useLive, useNow } from "../live/live";
import { age } from "./words";

const MEANING: Record<Colour, string> = { Green: "well", Yellow: "look", Red: "broken", Grey: "unknown" };

/** A traffic light; grey when what it says is too old. A word stands beside the colour for who does not see that. */
export function Light({ colour, late }: { colour: Colour; late?: boolean | undefined }) {
  const shown = late ? "Grey" : colour;
  return (
    <span className={`light ${shown.toLowerCase()}`}>
      <i aria-hidden="true" />
      {late ? "late" : MEANING[shown]}
    </span>
  );
}

/** How long ago something was, as it goes on. */
export const Age = ({ since }: { since: string | null | undefined }) => <>{age(since, useNow())}</>;

export const Badge = ({ tone = "plain", children }: { tone?: string; children: ReactNode }) => (
  <span className={`badge ${tone}`}>{children}</span>
);

const TONES: Record<string, string> = {
  Pass: "good",
  Restored: "good",
  Completed: "good",
  CONFIRMED: "good",
  Fail: "bad",
  Failed: "bad",
  Missed: "bad",
  Error: "bad",
  CANCELLED: "bad",
  Fetching: "busy",
  Checking: "busy",
  Restoring: "busy",
  Swapping: "busy",
  Running: "busy",
  Recovering: "busy",
  QUEUED: "busy",
  Stopped: "warn",
  Skipped: "warn",
};

/** A word of the operator's, in its colour. */
export const Word = ({ word }: { word: string | null | undefined }) =>
  word ? <Badge tone={TONES[word] ?? "plain"}>{word}</Badge> : <span className="faint">–</span>;

/** One word of a condition: whole where there is room, and else broken between the words that it is made of. */
export const Reason = ({ word }: { word: string | null | undefined }) => (
  <span className="reason">
    {word
      ? word.split(/(?<=[a-z0-9])(?=[A-Z])/).map((part, index) => (
          <Fragment key={index}>
            {index > 0 && <wbr />}
            {part}
          </Fragment>
        ))
      : "–"}
  </span>
);

export const Panel = ({ title, aside, children }: { title: ReactNode; aside?: ReactNode; children: ReactNode }) => (
  <section className="panel">
    <header>
      <h2>{title}</h2>
      {aside}
    </header>
    {children}
  </section>
);

/** What stands where there is nothing to show. */
export const Notice = ({ tone = "plain", title, children }: { tone?: string; title: string; children?: ReactNode }) => (
  <div className={`notice ${tone}`} role={tone === "bad" ? "alert" : "status"}>
    <strong>{title}</strong>
    {children && <div>{children}</div>}
  </div>
);

/** Shows `children` once the kind is known; what stands in their place says why it is not. */
export function Shown({ kind, empty, children }: { kind: Kind; empty: ReactNode | null; children: ReactNode }) {
  const { known, connection } = useLive();
  const state = stream(known, kind);
  if (!known.ready)
    return connection === "lost" ? (
      <Notice tone="bad" title="The console does not answer.">
        It is asked again every two seconds.
      </Notice>
    ) : (
      <Loading />
    );
  if (state?.forbidden)
    return (
      <Notice tone="warn" title={`You may not list ${kind} objects.`}>
        Ask for a role that may, such as <code>view</code>, in the namespaces that you look after.
      </Notice>
    );
  if (!state?.asOf)
    return state?.error ? (
      <Notice tone="bad" title="The cluster does not answer.">
        {state.error}
      </Notice>
    ) : (
      <Loading />
    );
  return <>{empty ?? children}</>;
}

export const Loading = () => (
  <div className="loading" role="status">
    <span className="visually-hidden">Loading</span>
    <i />
    <i />
    <i />
  </div>
);

/** Until when the API server confirmed what is shown, or the operator wrote it; and why that is too long ago. */
export function AsOf({ kind }: { kind: Kind }) {
  const { known } = useLive();
  const now = useNow();
  const late = useLateness(kind);
  const state = stream(known, kind);
  if (!state?.asOf) return null;
  // Whoever repeats what nobody has written for a while has confirmed nothing new.
  const asOf = late && late === known.silence?.reason ? known.silence.since : state.asOf;
  return (
    <span className={late ? "as-of late" : "as-of"}>
      {late ? "LATE, " : ""}data as of {age(asOf, now)} ago{late ? `: ${late}` : ""}
      {state.truncated ? ", not all is shown" : ""}
    </span>
  );
}

/** How long figures and events may be old: they are asked for every five seconds. Unit: milliseconds. */
const FRESH = 15_000;

/** When something was asked for that is no stream; too long ago, or never since the connection broke, is late. */
export function Asked({ at, words }: { at: string | number | null | undefined; words: string }) {
  const { connection } = useLive();
  const now = useNow();
  if (!at) return null;
  const time = new Date(at);
  const late = connection === "lost" || now - time.getTime() > FRESH;
  return (
    <span className={late ? "as-of late" : "as-of"}>
      {late ? "LATE, " : ""}
      {words} {age(time.toISOString(), now)} ago
    </span>
  );
}

/** Why what is known of a kind is too old to be believed; null while it is not. */
export function useLateness(kind: Kind): string | null {
  const { known, connection } = useLive();
  const state = stream(known, kind);
  if (connection === "lost") return "the console does not answer";
  if (state?.late ?? true) return state?.error ?? "the API server has not confirmed it for too long";
  // What is said of a pod is not the operator's.
  return kind === "Pod" ? null : (known.silence?.reason ?? null);
}

export const Failure = ({ error }: { error: Error | null }) =>
  error ? (
    <p className="failure" role="alert">
      {error.message}
    </p>
  ) : null;
