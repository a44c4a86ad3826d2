// What runs in a range of operators, by layer: most time first, or most bytes moved.

import type { Model } from "../../model";
import type { Step } from "../../types";

export interface LayerShare {
  /** The first of the layers; "" for what is outside of all. */
  path: string;
  /** With a star where it stands for equal layers. */
  name: string;
  /** How many equal layers run in the range. */
  count: number;
  operators: number;
  value: number;
}

export interface InRange {
  /** "time_ms" where the step has times, or else "nbytes": what the operators move. */
  by: "time_ms" | "nbytes";
  operators: number;
  value: number;
  layers: LayerShare[];
}

/** Equal layers are summed, as everywhere. */
export function layersIn(model: Model, step: Step, range: [number, number] | null): InRange {
  const { operators, texts } = step;
  const by = operators.time_ms.length ? "time_ms" : "nbytes";
  const values = operators[by];
  const byModule = new Map<number, LayerShare>();
  const found = new Map<string, LayerShare>();
  const layerOf = (module: number): LayerShare => {
    const path = texts[module]!;
    const part = model.byPath.get(path);
    const { key, name } = part ? model.group(part) : { key: path, name: path };
    let layer = found.get(key);
    if (!layer) found.set(key, (layer = { path, name, count: 0, operators: 0, value: 0 }));
    layer.count += 1;
    byModule.set(module, layer);
    return layer;
  };
  let [count, whole] = [0, 0];
  for (let index = 0; index < operators.op.length; index += 1) {
    const op = operators.op[index]!;
    if (range && (op < range[0] || op > range[1])) continue;
    const module = operators.module[index]!;
    const layer = byModule.get(module) ?? layerOf(module);
    layer.operators += 1;
    layer.value += values[index]!;
    count += 1;
    whole += values[index]!;
  }
  return { by, operators: count, value: whole, layers: [...found.values()].sort((a, b) => b.value - a.value) };
}

/** The stretches of operators that serve a module or what is below it. */
export function stretchesOf(model: Model, path: string): [number, number][] {
  const { operators, texts } = model.step!;
  const inside = new Map<number, boolean>();
  const belongs = (module: number): boolean => {
    let known = inside.get(module);
    if (known === undefined) {
      const text = texts[module]!;
      known = path === "" || text === path || text.startsWith(`${path}.`);
      inside.set(module, known);
    }
    return known;
  };
  const found: [number, number][] = [];
  let open: [number, number] | null = null;
  for (let index = 0; index < operators.op.length; index += 1) {
    const op = operators.op[index]!;
    if (!belongs(operators.module[index]!)) open = null;
    else if (open) open[1] = op + 1;
    else found.push((open = [op, op + 1]));
  }
  return found;
}
