/** What the schemas of the kinds say of a field, and what a form holds of a spec. Pure. */
import { spaced } from "./words";

/** As much of a CustomResourceDefinition's schema as a form needs. */
export interface Schema {
  type?: string;
  description?: string;
  default?: Json;
  enum?: string[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  additionalProperties?: Schema | boolean;
  minimum?: number;
  maximum?: number;
  "x-kubernetes-int-or-string"?: boolean;
}

export type Json = string | number | boolean | null | Json[] | { [field: string]: Json };

/** How a field is typed in. */
export type Entry = "choice" | "switch" | "number" | "text" | "lines" | "pairs" | "list" | "group";

export function entry(schema: Schema): Entry {
  if (schema.enum) return "choice";
  if (schema["x-kubernetes-int-or-string"]) return "text";
  switch (schema.type) {
    case "boolean":
      return "switch";
    case "integer":
    case "number":
      return "number";
    case "array":
      return schema.items?.properties ? "list" : "lines";
    case "object":
      return schema.properties ? "group" : "pairs";
    default:
      return "text";
  }
}

/** A field's name as a person writes it: `gracePeriodSeconds` is `Grace period seconds`. */
export const title = (name: string): string => {
  const words = spaced(name);
  return words.charAt(0).toUpperCase() + words.slice(1);
};

/** What a field is for, without what is said of its default, and that default where it is a short word. */
export function help(schema: Schema): { text: string; standard: string } {
  const [text = "", ...rest] = (schema.description ?? "").split(/ (?=Unit: |Default: |Required\.)/);
  const said = /^Default: ([^.;,]{1,24})[.;,]?/.exec(rest.find((part) => part.startsWith("Default: ")) ?? "")?.[1];
  const plain = text.replaceAll("`", "");
  const standard = schema.default === undefined || typeof schema.default === "object" ? (said ?? "") : String(schema.default);
  return { text: plain, standard: standard === "none" ? "" : standard };
}

/** What somebody typed, as the field's own type; undefined where nothing was. */
export function typed(schema: Schema, text: string): Json | undefined {
  const trimmed = text.trim();
  if (trimmed === "") return undefined;
  switch (entry(schema)) {
    case "number":
      // What is no number is passed on: the API server says so.
      return Number.isNaN(Number(trimmed)) ? trimmed : Number(trimmed);
    case "lines":
      return trimmed.split("\n").flatMap((line) => typed(schema.items ?? {}, line) ?? []);
    case "pairs":
      return Object.fromEntries(
        trimmed.split("\n").map((line) => {
          const at = line.indexOf("=");
          return at < 0 ? [line.trim(), ""] : [line.slice(0, at).trim(), line.slice(at + 1).trim()];
        }),
      );
    default:
      return schema["x-kubernetes-int-or-string"] && /^\d+$/.test(trimmed) ? Number(trimmed) : trimmed;
  }
}

/** A value as it is typed in. */
export function shown(value: Json | undefined): string {
  if (value === undefined || value === null) return "";
  if (Array.isArray(value)) return value.map(shown).join("\n");
  if (typeof value === "object") return Object.entries(value).map(([name, text]) => `${name}=${shown(text)}`).join("\n");
  return String(value);
}

/** `group` with `name` set, or without it; undefined where nothing is left. */
export function put(group: Json | undefined, name: string, value: Json | undefined): Json | undefined {
  const { [name]: _, ...rest } = (group ?? {}) as Record<string, Json>;
  const all = value === undefined ? rest : { ...rest, [name]: value };
  return Object.keys(all).length === 0 ? undefined : all;
}

/** A field of a group. */
export const field = (group: Json | undefined, name: string): Json | undefined =>
  group !== undefined && group !== null && typeof group === "object" && !Array.isArray(group) ? group[name] : undefined;

/** Fields that must be there come first and those that hold others last; else as the schema has them. */
export function ordered(schema: Schema): [string, Schema][] {
  const weight = ([name, inner]: [string, Schema]) =>
    (schema.required?.includes(name) ? 0 : 1) + (["group", "list"].includes(entry(inner)) ? 4 : entry(inner) === "switch" ? 2 : 0);
  return Object.entries(schema.properties ?? {}).sort((one, other) => weight(one) - weight(other));
}
