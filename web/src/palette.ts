// A quiet colour for each type of module, the same in every view: the types that own and do most first.

import type { Model } from "./model";

export const TYPE_COLORS = 8;

/** Type → number of its colour (`--type-0` …); types beyond the eighth share the grey of `--type-rest`. */
export function typePalette(model: Model): Map<string, number> {
  const cached = made.get(model);
  if (cached) return cached;
  const weights = new Map<string, number>();
  const { params, macs } = model.answer.own;
  const [allParams, allMacs] = [sum(params), sum(macs)];
  for (const part of model.parts) {
    if (part.children.length && !params[part.index] && !macs[part.index]) continue;
    const weight = params[part.index]! / allParams + macs[part.index]! / allMacs + 1 / model.parts.length;
    weights.set(part.module.type, (weights.get(part.module.type) ?? 0) + weight);
  }
  const ranked = [...weights].sort((a, b) => b[1] - a[1]).slice(0, TYPE_COLORS);
  const palette = new Map(ranked.map(([type], index) => [type, index]));
  made.set(model, palette);
  return palette;
}

/** Name of the colour's variable in styles.css, without the dashes. */
export function typeColor(model: Model, type: string): string {
  const index = typePalette(model).get(type);
  return index === undefined ? "type-rest" : `type-${index}`;
}

const made = new WeakMap<Model, Map<string, number>>();
const sum = (values: number[]): number => values.reduce((all, value) => all + value, 0) || 1;
