// Shapes as text, as src/torchgauge/render/shapes.py writes them: "[B, 3, 224, 224]".

import type { NamedValue } from "./types";

export function shapeText(value: NamedValue, batch: number | null): string {
  if (!value.shape) return value.text ?? "–";
  const factors = new Map(batch === null ? [] : value.batch_dims);
  const sizes = value.shape.map((size, dim) => {
    const factor = factors.get(dim);
    return factor === undefined ? String(size) : factor === 1 ? "B" : `${factor}B`;
  });
  return `[${sizes.join(", ")}]`;
}

/** The leaves of a call's inputs or outputs, and all of them where the text is short for more. */
export function valuesText(values: readonly NamedValue[], batch: number | null): { short: string; full: string; all: string[] } {
  const tensors = values.filter((value) => value.shape);
  if (!tensors.length) {
    const text = values.length ? shapeText(values[0]!, batch) : "–";
    return { short: text, full: text, all: [text] };
  }
  const shapes = tensors.map((value) => shapeText(value, batch));
  if (shapes.length === 1) return { short: shapes[0]!, full: shapes[0]!, all: shapes };
  const named = tensors.some((value) => !/^\d+$/.test(value.name.replaceAll(".", "")));
  const all = named ? shapes.map((text, index) => `${tensors[index]!.name} ${text}`) : shapes;
  return { short: `${shapes[0]} +${shapes.length - 1}`, full: all.join(", "), all };
}

export function dtypeText(values: readonly NamedValue[]): string {
  return [...new Set(values.filter((value) => value.shape).map((value) => value.dtype!))].join(", ") || "–";
}
