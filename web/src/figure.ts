// A figure: its text for people, the exact number for a hover, a copy and a test.

import { h } from "./dom";
import { integer } from "./format";

/**
 * `field` names the number in the data: "totals.params" of the report, "devices.0.device_bytes" of
 * the answer, "own.3.macs" of the module of that index, "modules.3.macs" with everything below it,
 * "modules.3,8.macs" summed over two. A test compares `value` with what it finds there.
 */
export function figure(field: string, value: number, text: string, title = exact(value)): HTMLElement {
  return h("data", { class: "figure", value, title, "data-field": field, "data-value": value }, text);
}

export function exact(value: number, unit = ""): string {
  const text = Number.isInteger(value) ? integer(value) : String(value);
  return unit ? `${text} ${unit}` : text;
}
