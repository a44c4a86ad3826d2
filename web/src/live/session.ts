// What is asked now, against which baseline: the newest change wins, and the page follows.

import type { App } from "../app";
import type { Answer, LayerDifference } from "../types";
import { ask, askAdvice, Refused } from "./ask";
import {
  fromAddress, isPlain, keyOf, meaningful, plain, toAddress, valuesOf,
  type AdviceOutcome, type Asked, type Changes, type Name, type Outcome, type Problem, type Values, type Workbench, type WorkModel,
} from "./workbench";

const QUIET_MS = 250;
/** Outcomes that are kept beside those in use, so that to go back and forth asks nothing. Each may take megabytes. */
const KEPT = 4;

/** An earlier version of the model, and the layers that differ from it. */
export interface Earlier {
  answer: Answer;
  layers: LayerDifference[];
}

export type Status =
  | { kind: "idle" }
  | { kind: "busy"; text: string; since: number }
  | { kind: "failed"; problem: Problem };

export class Session {
  status: Status = { kind: "idle" };
  /** What the controls show; the page shows it as soon as it is answered. */
  now: Asked;
  private baseline: Asked;
  private shown: Asked;
  private readonly kept = new Map<string, Outcome>();
  private readonly first: Outcome[];
  /** Models that could not be asked in the scenario that is shown, and the one that is asked now. */
  private readonly troubles = new Map<string, Problem>();
  private besideBusy: number | null = null;
  /** The answers that the page shows. */
  private drawn: Answer[];
  private listeners: (() => void)[] = [];
  private timer = 0;
  private running: AbortController | null = null;
  /** The last advice, and the question that it is about; what is told while it is looked for. */
  advice: { about: string; outcome: AdviceOutcome } | null = null;
  adviceStatus: Status = { kind: "idle" };
  /** What was shown before each suggestion that was applied: emptied by any other change. */
  private undoable: Asked[] = [];

  /** What is shown while nothing is changed and nothing pinned: against the version before it. */
  private earlier: Earlier | null = null;

  constructor(readonly app: App, readonly bench: Workbench, private readonly show: (answers: Answer[], layers?: LayerDifference[]) => void) {
    this.drawn = app.data.answers;
    this.first = bench.models.map(({ first, command }, index) => ({
      answer: index ? first.answer! : this.drawn[0]!, error: first.error, command, applied: [],
    }));
    const { now, pinned } = fromAddress(bench.models.length);
    this.now = this.checked(now);
    this.baseline = this.checked(pinned);
    this.shown = plain(0);
  }

  /** Restore what the address says. */
  start(): void {
    const error = this.outcomeOf(this.shown)!.error;
    if (error) this.tell({ kind: "failed", problem: error });
    if (keyOf(this.now) !== keyOf(this.shown) || keyOf(this.baseline) !== keyOf(this.shown)) void this.run();
  }

  on(listener: () => void): void {
    this.listeners.push(listener);
  }

  /** The bar is made anew: the old one listens no more. */
  forget(): void {
    this.listeners = [];
  }

  get values(): Values {
    return valuesOf(this.bench, this.now);
  }

  /** The outcome that the page shows, and the one that it is compared with. */
  get outcome(): Outcome {
    return this.outcomeOf(this.shown)!;
  }

  get isPinnedHere(): boolean {
    return keyOf(this.baseline) === keyOf(this.shown);
  }

  get isFirst(): boolean {
    return isPlain(this.now) && keyOf(this.baseline) === keyOf(plain(0));
  }

  isChanged(name: Name): boolean {
    return this.now.changes[name] !== undefined;
  }

  /** The model was changed and analysed again: what is known of it is old, and what is changed is asked anew. */
  renew(model: WorkModel, answer: Answer, earlier: Earlier | null): void {
    this.end();
    this.kept.clear();
    this.bench.models[0] = model;
    this.first[0] = { answer, error: model.first.error, command: model.command, applied: [] };
    this.shown = plain(0);
    this.earlier = earlier;
    // Advice was about the old code, and so were the suggestions that are applied.
    this.advice = null;
    this.undoable = [];
    this.now = this.checked({ ...this.now, applied: [] });
    this.baseline = this.checked({ ...this.baseline, applied: [] });
    this.draw();
    if (keyOf(this.now) !== keyOf(this.shown) || !this.outcomeOf(this.baseline)) this.move(this.now, 0);
  }

  /** Compare with another version. */
  compareWith(earlier: Earlier | null): void {
    this.earlier = earlier;
    this.draw();
  }

  set<N extends Name>(name: N, value: Values[N]): void {
    this.undoable = [];
    this.move({ ...this.now, changes: { ...this.now.changes, [name]: value } as Changes });
  }

  /** Another model, in the same scenario; sizes are the model's own. */
  choose(model: number): void {
    const changes = { ...this.now.changes };
    delete changes["input-size"];
    this.undoable = [];
    this.move({ model, changes, applied: model === this.now.model ? this.now.applied : [] });
  }

  pin(): void {
    this.baseline = this.shown;
    this.draw();
  }

  reset(): void {
    this.baseline = plain(0);
    this.undoable = [];
    this.move(plain(this.now.model), 0);
  }

  // ------------------------------------------------------------------------ advice

  /** Ask what to change in what is shown. */
  async advise(): Promise<void> {
    this.end();
    const running = (this.running = new AbortController());
    const asked = this.shown;
    const since = performance.now();
    const tell = (status: Status) => {
      this.adviceStatus = status;
      this.tell(this.status);
    };
    tell({ kind: "busy", text: "", since });
    try {
      const outcome = await askAdvice(asked, (text) => this.running === running && tell({ kind: "busy", text, since }), running.signal);
      if (this.running !== running) return;
      if (outcome) this.advice = { about: keyOf(asked), outcome };
      tell({ kind: "idle" });
    } catch (error) {
      if (this.running !== running) return;
      if (!(error instanceof Refused)) throw error;
      tell({ kind: "failed", problem: error.problem });
    } finally {
      if (this.running === running) this.running = null;
    }
    await this.askOthers();
  }

  cancelAdvice(): void {
    this.end();
    this.tell(this.status);
  }

  /** Whether the advice is about what is shown. */
  get isAdviceNew(): boolean {
    return this.advice?.about === keyOf(this.shown);
  }

  get canUndo(): boolean {
    return this.undoable.length > 0;
  }

  isApplied(index: number): boolean {
    const { key, controls } = this.advice!.outcome.ways[index]!;
    if (!controls) return this.now.applied.includes(key);
    return Object.entries(controls).every(([name, value]) => this.values[name as Name] === value);
  }

  /** Make a suggestion of the last advice: by the controls where they say the same. */
  apply(index: number): void {
    const { key, controls } = this.advice!.outcome.ways[index]!;
    const { now } = this;
    this.undoable.push(now);
    this.move(controls ? { ...now, changes: { ...now.changes, ...controls } } : { ...now, applied: [...now.applied, key] }, 0);
  }

  /** Take one of the applied changes back; the others stay. */
  remove(index: number): void {
    this.undoable = [];
    this.move({ ...this.now, applied: this.now.applied.filter((_, place) => place !== index) }, 0);
  }

  undo(): void {
    const before = this.undoable.pop();
    if (before) this.move(before, 0);
  }

  // ------------------------------------------------------------------------ asking

  /** End what is asked and go back to what is shown. */
  cancel(): void {
    this.end();
    this.now = this.shown;
    this.tell({ kind: "idle" });
    this.write();
  }

  private move(next: Asked, quietMs = QUIET_MS): void {
    const checked = this.checked(next);
    this.now = checked;
    this.write();
    this.end();
    if (this.outcomeOf(this.now) && this.outcomeOf(this.baseline)) return void this.run();
    this.tell({ kind: "busy", text: "", since: performance.now() });
    this.timer = window.setTimeout(() => void this.run(), quietMs);
  }

  private end(): void {
    clearTimeout(this.timer);
    this.running?.abort();
    this.running = null;
    this.besideBusy = null;
    this.troubles.clear();
    this.adviceStatus = { kind: "idle" };
  }

  private async run(): Promise<void> {
    const running = (this.running = new AbortController());
    const since = performance.now();
    try {
      for (const asked of [this.baseline, this.now]) {
        if (this.outcomeOf(asked)) continue;
        this.tell({ kind: "busy", text: "", since });
        const progress = (text: string) => this.running === running && this.tell({ kind: "busy", text, since });
        const outcome = await ask(asked, progress, running.signal);
        if (this.running !== running) return;
        if (!outcome) return this.tell({ kind: "idle" });
        this.keep(asked, outcome);
      }
    } catch (error) {
      if (this.running !== running) return;
      if (!(error instanceof Refused)) throw error;
      // A baseline of an old link that cannot be asked any more is let go.
      if (!this.outcomeOf(this.baseline)) this.baseline = plain(0);
      return this.tell({ kind: "failed", problem: error.problem });
    } finally {
      if (this.running === running) this.running = null;
    }
    this.shown = this.now;
    this.draw();
    await this.askOthers();
  }

  /** The other models in the same scenario, so that they can be seen beside the one that is shown. */
  private async askOthers(): Promise<void> {
    const running = (this.running = new AbortController());
    for (const asked of this.besides) {
      if (this.outcomeOf(asked) || this.troubles.has(keyOf(asked))) continue;
      this.besideBusy = asked.model;
      this.tell(this.status);
      try {
        const outcome = await ask(asked, () => undefined, running.signal);
        if (this.running !== running) return;
        if (outcome) this.keep(asked, outcome);
      } catch (error) {
        if (this.running !== running) return;
        if (!(error instanceof Refused)) throw error;
        this.troubles.set(keyOf(asked), error.problem);
      }
    }
    this.besideBusy = null;
    this.running = null;
    this.tell(this.status);
  }

  /** What is asked of each model, to be seen beside each other. */
  get besides(): Asked[] {
    const { "input-size": _, ...common } = this.shown.changes;
    return this.bench.models.map((__, model) => (model === this.shown.model ? this.shown : this.checked({ model, changes: common, applied: [] })));
  }

  /** What came of a model in the scenario that is shown. */
  beside(asked: Asked): Outcome | Problem | "busy" | null {
    return this.outcomeOf(asked) ?? this.troubles.get(keyOf(asked)) ?? (this.besideBusy === asked.model ? "busy" : null);
  }

  private draw(): void {
    const outcome = this.outcome;
    const baseline = this.outcomeOf(this.baseline) ?? outcome;
    const earlier = outcome === baseline && outcome === this.first[0] ? this.earlier : null;
    this.write();
    const answers = earlier ? [earlier.answer, outcome.answer] : outcome === baseline ? [outcome.answer] : [baseline.answer, outcome.answer];
    if (answers.length !== this.drawn.length || answers.some((answer, index) => answer !== this.drawn[index])) {
      this.drawn = answers;
      this.show(answers, earlier?.layers);
    }
    this.tell(outcome.error ? { kind: "failed", problem: outcome.error } : this.running ? this.status : { kind: "idle" });
  }

  private write(): void {
    toAddress(this.now, this.baseline);
  }

  private checked(asked: Asked): Asked {
    return { ...asked, changes: meaningful(this.bench, asked) };
  }

  private outcomeOf(asked: Asked): Outcome | undefined {
    return isPlain(asked) ? this.first[asked.model] : this.kept.get(keyOf(asked));
  }

  private keep(asked: Asked, outcome: Outcome): void {
    this.kept.set(keyOf(asked), outcome);
    const used = new Set([this.baseline, this.shown, this.now, ...this.besides].map(keyOf));
    let old = [...this.kept.keys()].filter((key) => !used.has(key));
    old = old.slice(0, Math.max(0, old.length - KEPT));
    for (const key of old) this.kept.delete(key);
  }

  private tell(status: Status): void {
    this.status = status;
    for (const listener of this.listeners) listener();
  }
}
