// Numbers as text, by the rules of src/torchgauge/units.py: a test compares the two.

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const COUNTS = ["", "K", "M", "G", "T", "P", "E"];
const two = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

function scaled(value: number, base: number, units: string[]): string {
  let magnitude = Math.abs(value);
  let index = 0;
  while (index < units.length - 1 && magnitude >= base - 0.005) {
    magnitude /= base;
    index += 1;
  }
  const sign = value < 0 ? "-" : "";
  const text = index === 0 && Number.isInteger(value) ? whole.format(magnitude) : two.format(magnitude);
  return `${sign}${text} ${units[index]}`.trimEnd();
}

export const bytes = (value: number): string => scaled(value, 1024, BYTES);

export function count(value: number, unit = ""): string {
  const text = scaled(value, 1000, COUNTS);
  if (!unit) return text;
  return /[A-Z]$/.test(text) ? text + unit : `${text} ${unit}`;
}

export const integer = (value: number): string => whole.format(value);

export function milliseconds(value: number): string {
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  if (value >= 1) return `${value.toFixed(2)} ms`;
  return `${(value * 1000).toFixed(1)} µs`;
}

export function rate(value: number): string {
  return value >= 100 ? whole.format(value) : String(Number(value.toPrecision(3)));
}

export function percent(part: number, all: number): string {
  if (!all) return "–";
  let share = (100 * part) / all;
  if (part < all && share > 99.99) share = 99.99;
  return `${String(Number(share.toFixed(2)))} %`;
}

export function share(part: number, all: number): string {
  const text = percent(part, all);
  return part > 0 && text === "0 %" ? "< 0.01 %" : text;
}

export const shape = (sizes: readonly number[] | null | undefined): string => (sizes ? `[${sizes.join(", ")}]` : "–");
