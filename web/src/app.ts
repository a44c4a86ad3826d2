// What the views share: the answers, and what is selected. A change is told to every view.

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
}

type Listener = (changed: ReadonlySet<keyof State>) => void;

export class App {
  readonly models: Model[];
  state: State;
  private listeners: Listener[] = [];

  constructor(readonly data: PageData) {
    this.models = data.answers.map((answer) => new Model(answer));
    this.state = { measure: "params", selected: null, range: null, theme: "auto", ...fromUrl() };
    if (this.state.selected !== null && !this.model.byPath.has(this.state.selected)) this.state.selected = null;
  }

  /** The model that is shown; of a comparison the changed one. */
  get model(): Model {
    return this.models[this.models.length - 1]!;
  }

  get baseline(): Model | null {
    return this.models.length > 1 ? this.models[0]! : null;
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
    toUrl(this.state);
    for (const listener of this.listeners) listener(changed);
  }

  select(path: string | null): void {
    this.set({ selected: path });
  }
}

const KEYS = ["selected", "measure", "theme"] as const;

function fromUrl(): Partial<State> {
  const found = new URLSearchParams(location.hash.slice(1));
  const state: Record<string, string> = {};
  for (const key of KEYS) if (found.has(key)) state[key] = found.get(key)!;
  return state as Partial<State>;
}

/** The address holds the state, so that a link shows the same. */
function toUrl(state: State): void {
  const hash = new URLSearchParams();
  for (const key of KEYS) if (state[key] !== null) hash.set(key, String(state[key]));
  try {
    history.replaceState(null, "", `#${hash}`);
  } catch {
    // A sandboxed frame has no address of its own.
  }
}
