/** Requests to the backend. What it refuses is an error with the words that it gave. */
import type { Session } from "./types";

export interface FieldError {
  field: string;
  detail: string;
}

/** A refusal: `status` 0 when nobody answered. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
    /** What is wrong with which field, where the API server says so. */
    readonly fields: readonly FieldError[] = [],
  ) {
    super(message);
  }
}

let csrf: string | null = null;

/** Remembers what commands have to repeat. */
export function remember(session: Session): Session {
  csrf = session.csrf ?? null;
  return session;
}

export const get = <T>(path: string, signal?: AbortSignal): Promise<T> => ask<T>("GET", path, undefined, {}, signal);

export const post = <T>(path: string, body: unknown = {}, headers: Record<string, string> = {}): Promise<T> =>
  ask<T>("POST", path, body, headers);

export const remove = (path: string): Promise<void> => ask<void>("DELETE", path);

async function ask<T>(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
  signal?: AbortSignal,
): Promise<T> {
  const all: Record<string, string> = { ...headers };
  if (method !== "GET" && csrf) all["X-Valerix-CSRF"] = csrf;
  if (body !== undefined) all["Content-Type"] = "application/json";
  let answer: Response;
  try {
    answer = await fetch(path, {
      method,
      headers: all,
      credentials: "same-origin",
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    });
  } catch {
    throw new Refusal(0, "The console does not answer. Is the tunnel to it still open?");
  }
  const text = await answer.text();
  if (!answer.ok) {
    const { detail, errors } = problem(text);
    throw new Refusal(answer.status, detail ?? `The console answered ${answer.status}.`, errors);
  }
  return (text ? JSON.parse(text) : undefined) as T;
}

function problem(text: string): { detail?: string; errors?: FieldError[] } {
  try {
    return JSON.parse(text) as { detail?: string; errors?: FieldError[] };
  } catch {
    return {};
  }
}
