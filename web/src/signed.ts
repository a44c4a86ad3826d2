// Differences as text: a sign, then the size.

import { integer } from "./format";

export const signed = (value: number, text: (value: number) => string): string => `${value > 0 ? "+" : value < 0 ? "−" : "±"}${text(Math.abs(value))}`;

export function signedShare(before: number, after: number): string {
  const share = (100 * (after - before)) / before;
  const size = Math.abs(share);
  const digits = size >= 1000 ? integer(size) : size >= 0.1 ? size.toFixed(1) : "< 0.1";
  return `${share > 0 ? "+" : "−"}${digits} %`;
}
