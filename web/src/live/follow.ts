// What the server of `torchgauge watch --ui` tells: each save, and the version that came of it
// (src/torchgauge/web/watch/versions.py).

import type { Language } from "../language";
import type { Answer, LayerDifference } from "../types";
import { authorized, events } from "./ask";
import type { Problem, WorkModel } from "./workbench";

export interface Heading {
  number: number;
  /** Those that were saved; none for the first version. */
  files: string[];
  at: string;
  seconds: number;
  watched: number;
}

export interface Good {
  version: Heading;
  /** Numbers of the first good version, and of the good one before this. */
  first: number;
  last: number | null;
  model: WorkModel;
  /** By number, those that the page did not have. */
  answers: Record<string, Answer>;
  /** By the number of the version that this one is compared with. */
  layers: Record<string, LayerDifference[]>;
}

export interface Broken {
  version: Heading;
  problems: Record<Language, Problem>;
}

export type News =
  | { name: "saved"; content: { files: string[] } }
  | { name: "version"; content: Good }
  | { name: "broken"; content: Broken }
  | { name: "ended" }
  | { name: "gone" };

const AGAIN_MS = 1000;

/**
 * Listen until the watch has ended. A tab that is not seen asks nothing: a browser opens only six
 * streams to one server. `since` is the number of the version that the page has, 0 for none.
 */
export async function follow(since: () => number, tell: (news: News) => void): Promise<void> {
  let failures = 0;
  while (failures < 2) {
    await seen();
    const unseen = new AbortController();
    const stop = () => document.hidden && unseen.abort();
    document.addEventListener("visibilitychange", stop);
    try {
      const response = await fetch(`versions?since=${since()}`, { headers: authorized, signal: unseen.signal });
      if (!response.ok) break;
      failures = 0;
      for await (const [name, text] of events(response)) {
        const news = { name, content: JSON.parse(text) } as News;
        queueMicrotask(() => tell(news)); // what fails there is no fault of the stream
        if (name === "ended") return;
      }
    } catch {
      // Nobody answers, or the tab is not seen any more.
    } finally {
      document.removeEventListener("visibilitychange", stop);
    }
    if (unseen.signal.aborted) continue;
    failures += 1;
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
  tell({ name: "gone" });
}

function seen(): Promise<void> {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
  });
}
