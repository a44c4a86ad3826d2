// A difference in words: its sign, its size, its share, and whether it is for the better.

import { texts } from "../language";
import { signed, signedShare } from "../signed";
import type { Figure } from "./figures";

const t = texts(
  { more: "more", less: "less", fresh: "not in the baseline", gone: "only in the baseline" },
  { more: "增加", less: "减少", fresh: "基线中没有", gone: "仅基线中有" },
);

export function stateOf(before: number | null, after: number | null, better: Figure["better"]): string {
  if (before === null || after === null || before === after || !better) return "";
  return after < before === (better === "less") ? "better" : "worse";
}

/** "▼ −1.20 GiB · −37.2 % · less": a sign and a word, colour only on top. */
export function by(before: number | null, after: number | null, text: (value: number) => string): string {
  if (before === null) return t("fresh");
  if (after === null) return t("gone");
  return [...step(before, after, text), t(after > before ? "more" : "less")].join(" · ");
}

/** "▼ −1.20 GiB" and "−37.2 %". */
export function step(before: number, after: number, text: (value: number) => string): string[] {
  const found = [`${after > before ? "▲" : "▼"} ${signed(after - before, text)}`];
  if (before) found.push(signedShare(before, after));
  return found;
}
