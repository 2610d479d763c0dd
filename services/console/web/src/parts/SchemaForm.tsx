/** Fields of a form, as the schema of a kind says. What is refused stands beside its field, in the API server's words. */
import { type ReactNode, useId, useState } from "react";
import { type Json, type Schema, entry, field, help, ordered, put, shown, title, typed } from "./schema";

interface Place {
  /** Where it is in the spec, as the API server names it: `steadyState.probes[0].name`. */
  path: string;
  schema: Schema;
  value: Json | undefined;
  set: (value: Json | undefined) => void;
  errors: Errors;
  required?: boolean;
  label?: string;
}

/** What was refused, by path. */
export type Errors = Readonly<Record<string, string>>;

/** The fields of a group, but for those in `without`. */
export function Fields({ path, schema, value, set, errors, without = [] }: Omit<Place, "required" | "label"> & { without?: readonly string[] }) {
  return ordered(schema)
    .filter(([name]) => !without.includes(name))
    .map(([name, inner]) => (
      <SchemaField
        key={name}
        path={path ? `${path}.${name}` : name}
        label={title(name)}
        schema={inner}
        required={schema.required?.includes(name) ?? false}
        value={field(value, name)}
        set={(changed) => set(put(value, name, changed))}
        errors={errors}
      />
    ));
}

export function SchemaField(place: Place) {
  switch (entry(place.schema)) {
    case "group":
      return <Group {...place} />;
    case "list":
      return <List {...place} />;
    case "switch":
      return <Switch {...place} />;
    default:
      return <Single {...place} />;
  }
}

/** A label, its entry, what it is for and what is wrong with it. */
export function Labelled({
  label,
  help,
  error,
  required,
  children,
}: {
  label: string;
  help?: ReactNode;
  error?: string | undefined;
  required?: boolean | undefined;
  children: (attributes: { id: string; "aria-describedby": string; "aria-invalid": boolean; required?: boolean }) => ReactNode;
}) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>
        {label}
        {required && <span className="faint"> required</span>}
      </label>
      {children({ id, "aria-describedby": `${id}-help`, "aria-invalid": error !== undefined })}
      <small id={`${id}-help`}>
        {error && <span className="failure">{error} </span>}
        {help}
      </small>
    </div>
  );
}

function Single({ path, schema, value, set, errors, required, label }: Place) {
  const kind = entry(schema);
  const { text, standard } = help(schema);
  // As it was typed: a line that was just begun is no value yet.
  const [words, say] = useState(() => shown(value));
  const change = (words: string) => {
    say(words);
    set(typed(schema, words));
  };
  return (
    <Labelled label={label ?? path} help={text} error={errors[path]} required={required}>
      {(attributes) =>
        kind === "choice" ? (
          <select {...attributes} value={shown(value)} onChange={(event) => set(event.target.value || undefined)}>
            <option value="">{standard ? `${standard} (default)` : "–"}</option>
            {schema.enum?.filter((word) => word && word !== standard).map((word) => (
              <option key={word}>{word}</option>
            ))}
          </select>
        ) : kind === "lines" || kind === "pairs" ? (
          <textarea
            {...attributes}
            rows={2}
            placeholder={kind === "pairs" ? "name=value, one on each line" : "one on each line"}
            value={words}
            onChange={(event) => change(event.target.value)}
          />
        ) : (
          <input
            {...attributes}
            {...(kind === "number" ? { type: "number", step: schema.type === "integer" ? 1 : "any" } : {})}
            {...(kind === "number" && schema.minimum !== undefined ? { min: schema.minimum } : {})}
            {...(kind === "number" && schema.maximum !== undefined ? { max: schema.maximum } : {})}
            placeholder={standard}
            spellCheck={false}
            value={words}
            onChange={(event) => change(event.target.value)}
          />
        )
      }
    </Labelled>
  );
}

function Switch({ path, schema, value, set, errors, label }: Place) {
  const standard = schema.default === true;
  const id = useId();
  return (
    <div className="check">
      <input
        id={id}
        type="checkbox"
        checked={(value ?? standard) === true}
        aria-describedby={`${id}-help`}
        onChange={(event) => set(event.target.checked === standard ? undefined : event.target.checked)}
      />
      <label htmlFor={id}>{label}</label>
      <small id={`${id}-help`}>
        {errors[path] && <span className="failure">{errors[path]} </span>}
        {help(schema).text}
      </small>
    </div>
  );
}

function Group(place: Place) {
  const { path, schema, errors, label } = place;
  const refused = Object.keys(errors).some((wrong) => wrong === path || wrong.startsWith(`${path}.`) || wrong.startsWith(`${path}[`));
  return (
    <details className="group" open={refused || place.required || undefined}>
      <summary>{label}</summary>
      <p className="faint">{help(schema).text}</p>
      {errors[path] && <p className="failure">{errors[path]}</p>}
      <div className="fields">
        <Fields {...place} />
      </div>
    </details>
  );
}

function List({ path, schema, value, set, errors, label }: Place) {
  const items = Array.isArray(value) ? value : [];
  const change = (items: Json[]) => set(items.length === 0 ? undefined : items);
  const singular = (label ?? path).replace(/s$/, "");
  return (
    <fieldset className="group">
      <legend>{label}</legend>
      <p className="faint">{help(schema).text}</p>
      {errors[path] && <p className="failure">{errors[path]}</p>}
      {items.map((item, index) => (
        // Items have no identity but their place.
        <fieldset key={`${items.length}/${index}`} className="fields">
          <legend>
            {singular} {index + 1}
          </legend>
          <Fields
            path={`${path}[${index}]`}
            schema={schema.items ?? {}}
            value={item}
            set={(changed) => change(items.map((old, at) => (at === index ? (changed ?? {}) : old)))}
            errors={errors}
          />
          <button type="button" onClick={() => change(items.filter((_, at) => at !== index))}>
            Remove {singular.toLowerCase()} {index + 1}
          </button>
        </fieldset>
      ))}
      <button type="button" onClick={() => change([...items, {}])}>
        Add {singular.toLowerCase()}
      </button>
    </fieldset>
  );
}
