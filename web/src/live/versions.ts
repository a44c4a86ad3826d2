// The versions that the page knows: the first, the last one and this one, and what came after it.

import type { Answer } from "../types";
import type { Broken, Good, Heading, News } from "./follow";
import type { Earlier } from "./session";

export class Versions {
  /** The newest version that could be analysed; null before there is one. */
  now: Good | null = null;
  /** A newer one that could not. */
  broken: Broken | null = null;
  /** Files that were saved and are being analysed. */
  saved: string[] | null = null;
  isOver = false;
  against: "last" | "first" = "last";
  private readonly answers = new Map<number, Answer>();
  private readonly headings = new Map<number, Heading>();
  private listeners: (() => void)[] = [];

  /** `onGood` is told of a version, and `onChosen` of another one to compare with, before the listeners are. */
  constructor(readonly spec: string, private readonly onGood: () => void, private readonly onChosen: () => void) {}

  on(listener: () => void): void {
    this.listeners.push(listener);
  }

  /** The page is made anew: what listened is thrown away. */
  forget(): void {
    this.listeners = [];
  }

  get number(): number {
    return this.now?.version.number ?? 0;
  }

  take(news: News): void {
    if (news.name === "saved") this.saved = news.content.files;
    else this.saved = null;
    if (news.name === "broken") this.broken = news.content;
    if (news.name === "ended" || news.name === "gone") this.isOver = true;
    if (news.name === "version") this.takeGood(news.content);
    for (const listener of this.listeners) listener();
  }

  answer(number: number): Answer {
    return this.answers.get(number)!;
  }

  /** When a version came; of one that came before this page was opened nothing is known. */
  heading(number: number): Heading | null {
    return this.headings.get(number) ?? null;
  }

  /** The versions before this one that it may be compared with: the first, and the last one. */
  get earlier(): number[] {
    if (!this.now) return [];
    const { first, last, version } = this.now;
    return [...new Set([first, last ?? first])].filter((number) => number !== version.number);
  }

  /** The one that it is compared with. */
  get compared(): Earlier | null {
    const number = this.against === "first" ? this.now?.first : this.now?.last;
    if (!this.now || !number || number === this.number) return null;
    return { answer: this.answer(number), layers: this.now.layers[number] ?? [] };
  }

  compareWith(number: number): void {
    this.against = number === this.now?.last ? "last" : "first";
    this.onChosen();
    for (const listener of this.listeners) listener();
  }

  private takeGood(good: Good): void {
    this.now = good;
    this.broken = null;
    for (const [number, answer] of Object.entries(good.answers)) this.answers.set(Number(number), answer);
    this.headings.set(good.version.number, good.version);
    const kept = new Set([good.first, good.last, good.version.number]);
    for (const number of this.answers.keys()) if (!kept.has(number)) this.answers.delete(number);
    this.onGood();
  }
}
