// Numbers as text, by the rules of src/torchgauge/units.py: a test compares the two.

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
/** From here on two decimals would print four digits before the point. */
const FOUR_DIGITS = 999.995;
const COUNTS = ["", "K", "M", "G", "T", "P", "E"];

/**
 * Decimals as Python writes them: a tie goes to the even digit. `toFixed` takes the larger one; a
 * number is only ever exactly half way where it is an odd number of halves, quarters, eighths, …
 */
function fixed(value: number, digits: number): string {
  const text = value.toFixed(digits);
  const parts = value * 2 ** (digits + 1);
  const tie = Number.isInteger(parts) && parts % 2 !== 0;
  return tie && Number(text.at(-1)) % 2 ? (value - value * Number.EPSILON).toFixed(digits) : text;
}

const grouped = (text: string): string => text.replace(/^\d+/, (digits) => digits.replace(/\B(?=(\d{3})+$)/g, ","));
/** `toFixed` writes exponents from 1e21 on; no figure of a model is that large. */
const whole = (value: number): string => (value < 0 ? "-" : "") + grouped(fixed(Math.abs(value), 0));

function scaled(value: number, base: number, units: string[]): string {
  let magnitude = Math.abs(value);
  let index = 0;
  while (index < units.length - 1 && magnitude >= (index ? FOUR_DIGITS : base - 0.005)) {
    magnitude /= base;
    index += 1;
  }
  const sign = value < 0 ? "-" : "";
  const text = grouped(fixed(magnitude, index === 0 && Number.isInteger(value) ? 0 : 2));
  return `${sign}${text} ${units[index]}`.trimEnd();
}

export const bytes = (value: number): string => scaled(value, 1024, BYTES);

export function count(value: number, unit = ""): string {
  const text = scaled(value, 1000, COUNTS);
  if (!unit) return text;
  return /[A-Z]$/.test(text) ? text + unit : `${text} ${unit}`;
}

export const integer = (value: number): string => whole(value);

export function milliseconds(value: number): string {
  if (value >= FOUR_DIGITS) return `${fixed(value / 1000, 2)} s`;
  if (value >= 0.99995) return `${fixed(value, 2)} ms`;
  return `${fixed(value * 1000, 1)} µs`;
}

export function rate(value: number): string {
  return value >= 100 ? whole(value) : String(Number(value > 0 ? fixed(value, 2 - Math.floor(Math.log10(value))) : 0));
}

export function percent(part: number, all: number): string {
  if (!all) return "–";
  let share = (100 * part) / all;
  if (part < all && share > 99.99) share = 99.99;
  return `${String(Number(fixed(share, 2)))} %`;
}

export function share(part: number, all: number): string {
  const text = percent(part, all);
  return part > 0 && text === "0 %" ? "< 0.01 %" : text;
}

export const shape = (sizes: readonly number[] | null | undefined): string => (sizes ? `[${sizes.join(", ")}]` : "–");
