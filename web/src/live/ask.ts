// Ask the server, read what it tells: progress, then a result or an error.

import { language } from "../language";
import type { AdviceOutcome, Asked, Outcome, Problem } from "./workbench";

/** The server takes the newest question of each tab. */
const client = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
const token = new URLSearchParams(location.search).get("token") ?? "";
export const authorized = { Authorization: `Bearer ${token}` };

export class Refused extends Error {
  constructor(readonly problem: Problem, readonly command: string | null = null) {
    super(problem.message);
  }
}

type OnProgress = (text: string) => void;

/** Resolves to null where the question was ended: by `signal`, or by a newer one. */
export const ask = (asked: Asked, onProgress: OnProgress, signal: AbortSignal): Promise<Outcome | null> =>
  answerOf<Outcome>("analyses", asked, onProgress, signal);

/** The same of what to change. */
export const askAdvice = (asked: Asked, onProgress: OnProgress, signal: AbortSignal): Promise<AdviceOutcome | null> =>
  answerOf<AdviceOutcome>("advice", asked, onProgress, signal);

async function answerOf<O>(route: string, asked: Asked, onProgress: OnProgress, signal: AbortSignal): Promise<O | null> {
  let response: Response;
  try {
    response = await fetch(route, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...authorized },
      body: JSON.stringify({ client, ...asked, language: language() }),
      signal,
    });
    if (!response.ok) throw new Refused(await problemOf(response));
    for await (const [name, text] of events(response)) {
      if (name === "cancelled") return null;
      const content = JSON.parse(text);
      if (name === "progress") onProgress(content.text);
      if (name === "result") return content as O;
      if (name === "failed") throw new Refused(content, content.command);
    }
  } catch (error) {
    if (signal.aborted) return null;
    if (error instanceof Refused) throw error;
    // The stream ended, or nobody answers.
  }
  throw new Refused({ message: "", hint: "", status: 0 });
}

async function problemOf(response: Response): Promise<Problem> {
  try {
    const { error } = await response.json();
    return { message: String(error.message), hint: String(error.hint ?? ""), status: response.status };
  } catch {
    return { message: `HTTP ${response.status}`, hint: "", status: response.status };
  }
}

/** Server-sent events: a name and its data, a blank line after each. */
export async function* events(response: Response): AsyncGenerator<[name: string, data: string]> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  // Data of several megabytes come in pieces: they are joined once, when the event is whole.
  let pieces: string[] = [];
  let tail = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const ends = (tail + value).includes("\n\n");
    pieces.push(value);
    tail = value.slice(-1);
    if (!ends) continue;
    const parts = pieces.join("").split("\n\n");
    pieces = [parts.pop()!];
    tail = pieces[0]!.slice(-1);
    for (const part of parts) {
      const [, name, data] = /^event: (\w+)\ndata: ([\s\S]*)$/.exec(part) ?? [];
      if (name !== undefined && data !== undefined) yield [name, data];
    }
  }
}
