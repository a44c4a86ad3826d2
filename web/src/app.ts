// What the views share: the answers, and what is selected. A change is told to every view.

import type { Language } from "./language";
import { Model } from "./model";
import type { PageData } from "./types";

export type Measure = "params" | "macs" | "activation" | "time";

export interface State {
  /** Path of the selected module; null for none. */
  selected: string | null;
  measure: Measure;
  /** Operators (indices in the trace) that are brushed in the timeline; null for all. */
  range: [number, number] | null;
  theme: "auto" | "light" | "dark";
  /** null: as the file says, or else the browser. */
  language: Language | null;
}

type Listener = (changed: ReadonlySet<keyof State>) => void;

export class App {
  models: Model[] = [];
  state: State;
  private listeners: Listener[] = [];
  private shown = new AbortController();

  constructor(public data: PageData) {
    this.state = { measure: "params", selected: null, range: null, theme: "auto", language: null, ...fromUrl() };
    this.replace(data);
  }

  /** Take other answers; what is selected stays where it is still there. All views are then old. */
  replace(data: PageData): void {
    this.data = data;
    this.models = data.answers.map((answer) => this.models.find((model) => model.answer === answer) ?? new Model(answer));
    const { selected } = this.state;
    this.state = { ...this.state, range: null, selected: selected !== null && this.model.byPath.has(selected) ? selected : null };
  }

  /** The model that is shown; of a comparison the changed one. */
  get model(): Model {
    return this.models[this.models.length - 1]!;
  }

  get baseline(): Model | null {
    return this.models.length > 1 ? this.models[0]! : null;
  }

  /** For listeners of the window and the like: aborted when all views are made anew. */
  get signal(): AbortSignal {
    return this.shown.signal;
  }

  /** The views are thrown away: nobody listens any more. */
  forget(): void {
    this.listeners = [];
    this.shown.abort();
    this.shown = new AbortController();
  }

  on(listener: Listener): void {
    this.listeners.push(listener);
  }

  set(change: Partial<State>): void {
    const changed = new Set<keyof State>();
    for (const key of Object.keys(change) as (keyof State)[]) {
      if (this.state[key] !== change[key]) changed.add(key);
    }
    if (!changed.size) return;
    this.state = { ...this.state, ...change };
    if (KEYS.some((key) => changed.has(key))) toUrl(this.state);
    for (const listener of [...this.listeners]) listener(changed);
  }

  select(path: string | null): void {
    this.set({ selected: path });
  }
}

const KEYS = ["selected", "measure", "theme", "language"] as const;

/** What an address may ask for: it may come from anybody. */
const ALLOWED: Partial<Record<string, string[]>> = {
  measure: ["params", "macs", "activation", "time"],
  theme: ["auto", "light", "dark"],
  language: ["en", "zh"],
};

function fromUrl(): Partial<State> {
  const found = new URLSearchParams(location.hash.slice(1));
  const state: Record<string, string> = {};
  for (const key of KEYS) {
    const value = found.get(key);
    if (value !== null && (!(key in ALLOWED) || ALLOWED[key]!.includes(value))) state[key] = value;
  }
  return state as Partial<State>;
}

/** The address holds the state, so that a link shows the same. */
function toUrl(state: State): void {
  const hash = new URLSearchParams(location.hash.slice(1)); // a live page keeps more in it
  for (const key of KEYS) {
    if (state[key] === null) hash.delete(key);
    else hash.set(key, String(state[key]));
  }
  try {
    history.replaceState(null, "", `#${hash}`);
  } catch {
    // A sandboxed frame has no address of its own.
  }
}
