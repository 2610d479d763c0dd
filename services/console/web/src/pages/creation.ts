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

/** What was refused by its path in the spec; what is refused of the object as a whole is told by the error alone. */
export function byPath(error: Error | null): Errors {
  if (!(error instanceof Refusal)) return {};
  const paths = error.fields.map(({ field, detail }) => [field.replace(/^spec\./, ""), detail]);
  return Object.fromEntries(paths) as Errors;
}
