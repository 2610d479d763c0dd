/** Names for the types that the backend's document gives. */
import type { components } from "./schema";

type Schemas = components["schemas"];
// The generator passes over what stands beside a reference: the field that tells the kinds apart.
type Of<K extends Kind, View> = View & { kind: K };
type Told = Schemas["Message"];
type Snapshot = Extract<Told, { type: "snapshot" }>;
type Upserted = Extract<Told, { type: "upserted" }>;

export type Kind = Schemas["Kind"];
export type Service = Of<"ResilientService", Schemas["ServiceView"]>;
export type Experiment = Of<"ChaosExperiment", Schemas["ExperimentView"]>;
export type Policy = Of<"BackupPolicy", Schemas["PolicyView"]>;
export type Backup = Of<"Backup", Schemas["BackupView"]>;
export type Restore = Of<"Restore", Schemas["RestoreView"]>;
export type Pod = Of<"Pod", Schemas["PodView"]>;
export type Item = Service | Experiment | Policy | Backup | Restore | Pod;
export type Message =
  | Exclude<Told, Snapshot | Upserted>
  | (Omit<Snapshot, "objects"> & { objects: Item[] })
  | (Omit<Upserted, "object"> & { object: Item });
export type Light = Schemas["Light"];
export type SeenStream = Schemas["SeenStream"];
export type Silence = Schemas["Silence"];
export type Vitals = Schemas["Vitals"];
export type Moment = Schemas["Moment"];
export type Session = Schemas["SessionAnswer"];
export type ShopAnswer = Schemas["ShopAnswer"];
export type Events = Schemas["Events"];
export type Pods = Schemas["Pods"];
export type PodReport = Schemas["PodReport"];
export type Manifest = Schemas["Manifest"];
export type Moments = Schemas["Moments"];
export type Turn = Schemas["Turn"];
export type Turns = Schemas["Turns"];
export type SpecSchema = Schemas["SpecSchema"];
export type Written = Schemas["Written"];
