/** The stream of the backend, and who looks at it. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, createContext, useContext, useEffect, useMemo, useReducer, useState } from "react";
import { get, remember } from "../api/client";
import type { Message, Session } from "../api/types";
import { type Known, NOTHING, learn } from "./reducer";

/** How long the stream may be silent: it says something every two seconds. Unit: milliseconds. */
export const SILENCE = 8_000;
const AGAIN = 2_000;

export type Connection = "connecting" | "live" | "lost";

interface Live {
  known: Known;
  connection: Connection;
  session: Session | undefined;
  /** Why it is not known who looks. */
  error: Error | null;
}

const LiveContext = createContext<Live>({ known: NOTHING, connection: "connecting", session: undefined, error: null });

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
    (known: Known, message: Message | null) => (message ? learn(known, message, Date.now()) : NOTHING),
    NOTHING,
  );
  const [connection, setConnection] = useState<Connection>("connecting");
  const who = session.data ? (session.data.user ?? (session.data.anonymousRead ? "" : null)) : null;

  useEffect(() => {
    if (who === null) return;
    let source: EventSource | undefined;
    let again: ReturnType<typeof setTimeout> | undefined;
    let silence: ReturnType<typeof setTimeout> | undefined;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(lost, SILENCE);
      setConnection("live");
    };
    const lost = () => {
      source?.close();
      clearTimeout(silence);
      clearTimeout(again);
      setConnection("lost");
      void queries.invalidateQueries({ queryKey: ["session"] });
      again = setTimeout(connect, AGAIN);
    };
    const connect = () => {
      source = new EventSource("/api/events");
      source.onmessage = (event: MessageEvent<string>) => {
        const message = JSON.parse(event.data) as Message;
        heard();
        tell(message);
        if (message.type === "signedOut") void queries.invalidateQueries({ queryKey: ["session"] });
      };
      source.onerror = lost;
    };
    connect();
    return () => {
      source?.close();
      clearTimeout(again);
      clearTimeout(silence);
      // What one person saw is not for the next.
      tell(null);
      setConnection("connecting");
    };
  }, [who, queries]);

  const live = useMemo(
    () => ({ known, connection, session: session.data, error: session.error }),
    [known, connection, session.data, session.error],
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
