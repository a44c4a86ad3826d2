// The data of the page in full: undoes src/torchgauge/web/lean.py, which says what each form is.

type Short = { $?: string; of?: unknown; keys?: string[]; at?: unknown; sizes?: unknown } & Record<string, unknown>;

export function whole(value: unknown): unknown {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.some((item) => typeof item === "object") ? value.map(whole) : value;
  const short = value as Short;
  switch (short.$) {
    case undefined:
      for (const key in short) short[key] = whole(short[key]);
      return short;
    case "rows": return rows(short.keys!, (short.of as unknown[]).map((column) => whole(column) as unknown[]));
    case "runs": return runs(short.of as unknown[]);
    case "sums": return sums(whole(short.of) as number[]);
    case "same": return same(whole(short.of) as unknown[], whole(short.at) as number[]);
    case "parts": return parts(whole(short.of) as unknown[], whole(short.sizes) as number[]);
    case "object": return Object.fromEntries(short.keys!.map((key, index) => [key, whole((short.of as unknown[])[index])]));
    default: throw new Error(`unknown form ${short.$}`);
  }
}

function rows(keys: string[], columns: unknown[][]): unknown[] {
  return columns[0]!.map((_, index) => {
    const row: Record<string, unknown> = {};
    for (let column = 0; column < keys.length; column++) row[keys[column]!] = columns[column]![index];
    return row;
  });
}

function runs(of: unknown[]): unknown[] {
  const found: unknown[] = [];
  for (let index = 0; index < of.length; index += 2) for (let left = of[index + 1] as number; left > 0; left--) found.push(of[index]);
  return found;
}

function sums(of: number[]): number[] {
  let sum = 0;
  return of.map((step) => (sum += step));
}

/** Equal values are one object from here on: nothing of the data is changed. */
function same(of: unknown[], at: number[]): unknown[] {
  return at.map((index) => of[index]);
}

function parts(of: unknown[], sizes: number[]): unknown[] {
  let end = 0;
  return sizes.map((size) => of.slice(end, (end += size)));
}
