/** A new object: what the API server says of it before it is written, and when it is. */
import { useMutation } from "@tanstack/react-query";
import { Refusal, post } from "../api/client";
import type { Written } from "../api/types";
import type { Errors } from "../parts/SchemaForm";
import type { Json } from "../parts/schema";

export interface Wanted {
  namespace: string;
  name: string;
  spec: Record<string, Json>;
}

/** `create` writes it, `check` only asks. */
export function useCreation(path: string, done: (written: Written) => void) {
  const check = useMutation({ mutationFn: (wanted: Wanted) => post<Written>(path, { ...wanted, check: true }) });
  const create = useMutation({
    mutationFn: (wanted: Wanted) => post<Written>(path, wanted),
    onMutate: () => check.reset(),
    onSuccess: done,
  });
  const error = create.error ?? check.error;
  return {
    check: (wanted: Wanted) => {
      create.reset();
      check.mutate(wanted);
    },
    create: create.mutate,
    pending: create.isPending || check.isPending,
    accepted: check.isSuccess,
    error,
    errors: byPath(error),
  };
}

/** The value that the API server repeats before it says what is wrong with it. */
const REPEATED = /^Invalid value: (?:"(?:[^"\\]|\\.)*"|\{.*\}|[\w.-]+): /;

/** What was refused, by its path in the spec. A rule on the spec as a whole names the field that it means first. */
export function byPath(error: Error | null): Errors {
  if (!(error instanceof Refusal)) return {};
  const paths = error.fields.map(({ field, detail }) => {
    const words = detail.replace(REPEATED, "");
    const named = /^[a-z]\w*(?:\.[a-z]\w*|\[\d+\])*/.exec(words)?.[0] ?? "";
    return [field === "spec" ? named : field.replace(/^spec\./, ""), words];
  });
  return Object.fromEntries(paths) as Errors;
}
