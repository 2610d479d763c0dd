/** The stream of the backend, and who looks at it. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, createContext, useContext, useEffect, useMemo, useReducer, useState } from "react";
import { get, remember } from "../api/client";
import type { Message, Session } from "../api/types";
import { type Known, NOTHING, learn } from "./reducer";

/** How long the stream may be silent: it says something every two seconds. Unit: milliseconds. */
export const SILENCE = 4_500;
const AGAIN = 2_000;
/** How long messages are gathered before they are shown: a thousand a second are ten pictures, not a thousand. Unit: milliseconds. */
export const GATHER = 100;
/** Messages that are gathered at most: a page in the background is called by its timers once a minute. */
const GATHERED = 1_000;

export type Connection = "connecting" | "live" | "lost";

interface Live {
  known: Known;
  connection: Connection;
  /** When the console was last heard of, while it is not. Unit: milliseconds since 1970, by our own clock. */
  lostAt: number | null;
  session: Session | undefined;
  /** Why it is not known who looks. */
  error: Error | null;
}

const CONNECTING = { connection: "connecting" as Connection, lostAt: null };

const LiveContext = createContext<Live>({ known: NOTHING, connection: "connecting", lostAt: null, session: undefined, error: null });

export const useLive = (): Live => useContext(LiveContext);

/** For tests: what is known is given. */
export const Given = ({ value, children }: { value: Live; children: ReactNode }) => (
  <LiveContext.Provider value={value}>{children}</LiveContext.Provider>
);

export function useSession() {
  return useQuery({
    queryKey: ["session"],
    queryFn: async ({ signal }) => remember(await get<Session>("/api/session", signal)),
    refetchInterval: 60_000,
  });
}

export function LiveProvider({ children }: { children: ReactNode }) {
  const session = useSession();
  const queries = useQueryClient();
  const [known, tell] = useReducer(
    (known: Known, messages: readonly Message[] | null) => (messages ? learn(known, messages, Date.now()) : NOTHING),
    NOTHING,
  );
  const [{ connection, lostAt }, setState] = useState<{ connection: Connection; lostAt: number | null }>(CONNECTING);
  const who = session.data ? (session.data.user ?? (session.data.anonymousRead ? "" : null)) : null;

  useEffect(() => {
    if (who === null) return;
    let source: EventSource | undefined;
    let again: ReturnType<typeof setTimeout> | undefined;
    let silence: ReturnType<typeof setTimeout> | undefined;
    let heardAt = Date.now();
    let gathered: Message[] = [];
    let gather: ReturnType<typeof setTimeout> | undefined;
    let shownAt = 0;
    // A timer and not the next frame: a page in the background has none, and would gather for as long as it is there.
    const show = () => {
      clearTimeout(gather);
      gather = undefined;
      shownAt = Date.now();
      tell(gathered);
      gathered = [];
      clearTimeout(silence);
      silence = setTimeout(lost, SILENCE - (Date.now() - heardAt));
      setState((state) => (state.connection === "live" ? state : { connection: "live", lostAt: null }));
    };
    const lost = () => {
      source?.close();
      clearTimeout(silence);
      clearTimeout(gather);
      gather = undefined;
      gathered = [];
      clearTimeout(again);
      setState({ connection: "lost", lostAt: heardAt });
      void queries.invalidateQueries({ queryKey: ["session"] });
      again = setTimeout(connect, AGAIN);
    };
    const connect = () => {
      const own = new EventSource("/api/events");
      source = own;
      own.onmessage = (event: MessageEvent<string>) => {
        // One that was given up has nothing to say any more.
        if (source !== own) return;
        const message = JSON.parse(event.data) as Message;
        heardAt = Date.now();
        gathered.push(message);
        // The first one after a silence is shown at once.
        if (gathered.length >= GATHERED || (gather === undefined && heardAt - shownAt >= GATHER)) show();
        else gather ??= setTimeout(show, GATHER);
        if (message.type === "signedOut") void queries.invalidateQueries({ queryKey: ["session"] });
      };
      own.onerror = () => source === own && lost();
    };
    connect();
    return () => {
      source?.close();
      clearTimeout(again);
      clearTimeout(silence);
      clearTimeout(gather);
      // What one person saw is not for the next.
      tell(null);
      setState(CONNECTING);
    };
  }, [who, queries]);

  const live = useMemo(
    () => ({ known, connection, lostAt, session: session.data, error: session.error }),
    [known, connection, lostAt, session.data, session.error],
  );
  return <LiveContext.Provider value={live}>{children}</LiveContext.Provider>;
}

/** The time, ten times a second or once. Unit: milliseconds since 1970, by the console's clock. */
export function useNow(period = 1_000): number {
  const { known } = useLive();
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), period);
    return () => clearInterval(timer);
  }, [period]);
  return now + known.skew;
}
