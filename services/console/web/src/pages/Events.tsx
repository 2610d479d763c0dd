import { useQuery } from "@tanstack/react-query";
import { get } from "../api/client";
import type { Events as Answer } from "../api/types";
import { useLive, useNow } from "../live/live";
import { Asked, Badge, Failure, Loading, Notice, Panel, Reason } from "../parts/parts";
import { age, clock } from "../parts/words";

export const Events = () => (
  <>
    <h1>Events</h1>
    <Happened />
  </>
);

/** What happened, to one object or to all. */
export function Happened({ namespace, name }: { namespace?: string; name?: string }) {
  const { known } = useLive();
  const now = useNow();
  const query = new URLSearchParams({ ...(namespace ? { namespace } : {}), ...(name ? { name } : {}) });
  const events = useQuery({
    queryKey: ["events", namespace, name],
    queryFn: ({ signal }) => get<Answer>(`/api/happened?${query}`, signal),
    refetchInterval: 5_000,
  });
  return (
    <Panel
      title={name ? "Events" : "What happened"}
      aside={events.dataUpdatedAt > 0 && <Asked at={events.dataUpdatedAt + known.skew} words="as of" />}
    >
      <Failure error={events.error} />
      {events.data?.truncated && (
        <Notice tone="warn" title="Not all is shown.">There are more events than are read, and some of those may be newer.</Notice>
      )}
      {events.isPending && <Loading />}
      {events.data?.events.length === 0 && (
        <Notice title="Nothing happened lately.">The cluster forgets events after an hour or so.</Notice>
      )}
      {(events.data?.events.length ?? 0) > 0 && (
        <div className="wide">
          <table>
            <thead>
              <tr>
                <th className="number">Ago</th>
                <th>Type</th>
                <th>Reason</th>
                {!name && <th>Object</th>}
                <th>Message</th>
                <th className="number">Times</th>
              </tr>
            </thead>
            <tbody>
              {events.data?.events.map((event, index) => (
                // Events have no identity of their own here, and the list is replaced as a whole.
                <tr key={index}>
                  <td data-label="Ago" className="number" title={clock(event.at)}>{age(event.at, now)}</td>
                  <td data-label="Type"><Badge tone={event.type === "Warning" ? "warn" : "plain"}>{event.type}</Badge></td>
                  <td data-label="Reason"><Reason word={event.reason} /></td>
                  {!name && (
                    <td data-label="Object">
                      {event.name} <small>{event.kind} in {event.namespace}</small>
                    </td>
                  )}
                  <td data-label="Message" className="long">{event.message}</td>
                  <td data-label="Times" className="number">{event.times}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}
