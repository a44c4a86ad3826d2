// An axis of bytes with round figures in binary units: 0, 512 MiB, 1 GiB, …

const MOST = 6;

/** The step between ticks is a power of two, so that each reads well; `max` holds `highest`. */
export function byteTicks(highest: number): { interval: number; max: number } {
  const interval = 2 ** Math.ceil(Math.log2(Math.max(highest, 1) / MOST));
  return { interval, max: interval * Math.ceil((highest * 1.02) / interval) };
}
