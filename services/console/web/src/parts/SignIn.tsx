import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useId, useRef, useState } from "react";
import { post, remember, remove } from "../api/client";
import type { Session } from "../api/types";
import { Failure } from "./parts";

/** Asks for a token; `small` is a button that opens it. */
export function SignIn({ small }: { small?: boolean }) {
  const dialog = useRef<HTMLDialogElement>(null);
  if (!small)
    return (
      <section className="sign-in panel">
        <Form />
      </section>
    );
  return (
    <>
      <button type="button" onClick={() => dialog.current?.showModal()}>
        Sign in
      </button>
      <dialog ref={dialog} aria-label="Sign in">
        <Form onDone={() => dialog.current?.close()} />
        <button type="button" className="quiet" onClick={() => dialog.current?.close()}>
          Close
        </button>
      </dialog>
    </>
  );
}

function Form({ onDone }: { onDone?: () => void }) {
  const queries = useQueryClient();
  const [token, setToken] = useState("");
  const id = useId();
  const sign = useMutation({
    mutationFn: (token: string) => post<Session>("/api/session", { token }),
    onSuccess: (session) => {
      setToken("");
      queries.setQueryData(["session"], remember(session));
      onDone?.();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    sign.mutate(token);
  };
  return (
    <form onSubmit={submit}>
      <h1>Sign in</h1>
      <p>
        The console does everything in your name: you see and do what your role in the cluster lets you. It keeps the
        token in memory, for this session alone.
      </p>
      <label htmlFor={id}>Token of the API server</label>
      <input
        id={id}
        type="password"
        autoComplete="off"
        spellCheck={false}
        required
        value={token}
        onChange={(event) => setToken(event.target.value)}
      />
      <p className="faint">
        One is printed by <code>kubectl create token &lt;service account&gt; --duration 8h</code>
      </p>
      <Failure error={sign.error} />
      <button type="submit" className="primary" disabled={sign.isPending}>
        {sign.isPending ? "Asking the cluster" : "Sign in"}
      </button>
    </form>
  );
}

export function SignOut({ user }: { user: string }) {
  const queries = useQueryClient();
  const out = useMutation({
    mutationFn: () => remove("/api/session"),
    onSettled: () => queries.invalidateQueries({ queryKey: ["session"] }),
  });
  return (
    <>
      <span className="user" title={user}>
        {user.replace("system:serviceaccount:", "")}
      </span>
      <button type="button" className="quiet" onClick={() => out.mutate()}>
        Sign out
      </button>
    </>
  );
}
