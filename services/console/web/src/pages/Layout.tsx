import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { useLive } from "../live/live";
import { all } from "../live/reducer";
import { Badge, Loading, Notice } from "../parts/parts";
import { SignIn, SignOut } from "../parts/SignIn";
import { applyTheme, next, theme } from "../parts/theme";

const PAGES = [
  ["/", "Overview"],
  ["/chaos", "Chaos"],
  ["/orders", "Orders"],
  ["/backups", "Backups"],
  ["/metrics", "Metrics"],
  ["/events", "Events"],
] as const;

export function Layout() {
  const { session, error, connection, known, lostAt } = useLive();
  const [chosen, choose] = useState(theme);
  const running = all(known, "ChaosExperiment").filter((experiment) => experiment.active).length;
  const { pathname } = useLocation();
  useEffect(() => {
    const page = PAGES.find(([path]) => path === pathname)?.[1] ?? decodeURIComponent(pathname.split("/").at(-1) ?? "");
    document.title = `${page} – Valerix`;
  }, [pathname]);
  const inside = session && (session.user || session.anonymousRead);
  return (
    <>
      <a className="skip" href="#content">
        To the content
      </a>
      <header className="bar">
        <Link to="/" className="brand">
          <img src="/icon.svg" alt="" width="22" height="22" />
          Valerix
        </Link>
        <nav aria-label="Pages">
          {PAGES.filter(([path]) => path !== "/orders" || session?.orders).map(([path, title]) => (
            <Link key={path} to={path} activeOptions={{ exact: path === "/" }} activeProps={{ "aria-current": "page" }}>
              {title}
              {path === "/chaos" && running > 0 && <Badge tone="busy">{running}</Badge>}
            </Link>
          ))}
        </nav>
        <div className="who">
          {inside && (
            <span className={`connection ${connection}`} role="status">
              {connection === "live" ? "live" : connection === "lost" ? "disconnected" : "connecting"}
            </span>
          )}
          <button
            type="button"
            className="quiet"
            onClick={() => {
              const after = next(chosen);
              applyTheme(after);
              choose(after);
            }}
          >
            <span className="word">theme: </span>
            {chosen}
          </button>
          {session?.user ? <SignOut user={session.user} /> : session?.anonymousRead && <SignIn small />}
        </div>
      </header>
      <main id="content" tabIndex={-1}>
        {lostAt !== null && inside && (
          <Notice tone="bad" title={`Disconnected since ${new Date(lostAt).toLocaleTimeString()}.`}>
            The console does not answer; what is shown is what it said last. It is asked again every two seconds.
          </Notice>
        )}
        {known.silence && connection === "live" && inside && (
          <Notice tone="bad" title={`Nobody has written status since ${new Date(Date.parse(known.silence.since) - known.skew).toLocaleTimeString()}.`}>
            Lights are grey, and nobody begins or ends a backup or an experiment, until that is over: {known.silence.reason}.
          </Notice>
        )}
        {!session && <h1 className="visually-hidden">Valerix</h1>}
        {inside ? (
          <Outlet />
        ) : session ? (
          <SignIn />
        ) : error ? (
          <Notice tone="bad" title="The console does not answer.">
            {error.message}
          </Notice>
        ) : (
          <Loading />
        )}
      </main>
    </>
  );
}
