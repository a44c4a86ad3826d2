// What a live page can change: the choices, and each model's first values (web/live/controls.py).

import type { Advised, Answer, Suggestion } from "../types";

/** By the names of the command line's options; null where the model has no such thing. */
export interface Values {
  mode: string;
  "batch-size": number | null;
  "input-size": string[];
  context: number | null;
  precision: string;
  optimizer: string | null;
  checkpointing: string;
  accumulation: number;
  device: string;
}

export type Name = keyof Values;
export type Changes = Partial<Values>;

export interface Problem {
  message: string;
  hint: string;
  status: number;
}

export interface Outcome {
  answer: Answer;
  /** The model failed: the answer holds what ran. */
  error: Problem | null;
  command: string;
  /** What was applied to the model, in order. */
  applied: (Suggestion & { chinese: Record<string, string> })[];
}

/** Advice on what was asked, and how each suggestion is applied. */
export interface AdviceOutcome extends Advised {
  command: string;
  /** Its key, and the controls that say the same; null where none do. */
  ways: { key: string; controls: Changes | null }[];
}

export interface WorkModel {
  spec: string;
  values: Values;
  command: string;
  /** Of the first model, the answer stands in the page's own answers. */
  first: { answer: Answer | null; error: Problem | null };
}

export interface Workbench {
  choices: {
    mode: string[];
    precision: string[];
    optimizer: string[];
    checkpointing: string[];
    device: { name: string; about: string }[];
  };
  models: WorkModel[];
}

/** A model, what is asked of it otherwise, and the suggestions that are applied, by key. */
export interface Asked {
  model: number;
  changes: Changes;
  applied: string[];
}

export const plain = (model: number): Asked => ({ model, changes: {}, applied: [] });
/** Whether it is what the command asked of a model. */
export const isPlain = ({ changes, applied }: Asked): boolean => !Object.keys(changes).length && !applied.length;

export const NAMES: readonly Name[] = [
  "mode", "batch-size", "input-size", "context", "precision", "optimizer", "checkpointing", "accumulation", "device",
];
const NUMBERS: readonly Name[] = ["batch-size", "context", "accumulation"];
const TRAINING_ONLY: readonly Name[] = ["optimizer", "checkpointing", "accumulation"];

export const isTraining = (name: Name): boolean => TRAINING_ONLY.includes(name);

/** One text for equal questions. */
export const keyOf = ({ model, changes, applied }: Asked): string =>
  JSON.stringify([model, applied, ...NAMES.map((name) => changes[name] ?? null)]);

/** The values that a question has: the first ones and what is changed. */
export function valuesOf(bench: Workbench, { model, changes }: Pick<Asked, "model" | "changes">): Values {
  const values = { ...bench.models[model]!.values, ...changes };
  if (values.mode === "training" && values.optimizer === null) values.optimizer = "sgd";
  return values;
}

/** What may be asked of a model: the rest has no meaning for it, or in its mode. */
export function meaningful(bench: Workbench, { model, changes }: Pick<Asked, "model" | "changes">): Changes {
  const first = bench.models[model]!.values;
  const mode = changes.mode ?? first.mode;
  const kept: Record<string, unknown> = {};
  for (const name of NAMES) {
    const value = changes[name];
    if (value === undefined || same(value, first[name])) continue;
    if (first[name] === null && name !== "optimizer") continue;
    if (isTraining(name) && mode !== "training") continue;
    kept[name] = value;
  }
  return kept as Changes;
}

export const same = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);

// ------------------------------------------------------------------------ the address

const WHAT = "set.";
const PINNED = "pin.";
/** As many as the server takes. */
const MOST_APPLIED = 32;

function written(hash: URLSearchParams, prefix: string, asked: Asked | null): void {
  for (const name of ["model", "applied", ...NAMES]) hash.delete(prefix + name);
  if (!asked) return;
  if (asked.model) hash.set(`${prefix}model`, String(asked.model));
  if (asked.applied.length) hash.set(`${prefix}applied`, asked.applied.join(";"));
  for (const name of NAMES) {
    const value = asked.changes[name];
    if (value !== undefined && value !== null) hash.set(prefix + name, Array.isArray(value) ? value.join(";") : String(value));
  }
}

function read(hash: URLSearchParams, prefix: string, models: number): Asked {
  const changes: Record<string, unknown> = {};
  for (const name of NAMES) {
    const text = hash.get(prefix + name);
    if (text === null || text.length > 400) continue;
    if (name === "input-size") changes[name] = text.split(";");
    else if (!NUMBERS.includes(name)) changes[name] = text;
    else if (/^\d{1,12}$/.test(text) && Number(text) > 0) changes[name] = Number(text);
  }
  const model = Number(hash.get(`${prefix}model`) ?? 0);
  const keys = (hash.get(`${prefix}applied`) ?? "").split(";").filter((key) => /^[0-9a-f]{12}$/.test(key));
  return { model: Number.isInteger(model) && model > 0 && model < models ? model : 0, changes: changes as Changes, applied: keys.slice(0, MOST_APPLIED) };
}

/** The address holds what is changed and what is pinned: a reload and a link show the same. */
export function toAddress(now: Asked, pinned: Asked | null): void {
  const hash = new URLSearchParams(location.hash.slice(1));
  written(hash, WHAT, now);
  written(hash, PINNED, pinned);
  history.replaceState(null, "", `#${hash}`);
}

export function fromAddress(models: number): { now: Asked; pinned: Asked } {
  const hash = new URLSearchParams(location.hash.slice(1));
  return { now: read(hash, WHAT, models), pinned: read(hash, PINNED, models) };
}
