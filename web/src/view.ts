// A block of the page: heading, one line on how to read it, and its content.

import { h, type Child } from "./dom";

export interface Block {
  element: HTMLElement;
  body: HTMLElement;
}

/** A section with an id (its anchor), a heading, how to read it, and controls at the right. */
export function block(id: string, title: string, reading: string, ...controls: Child[]): Block {
  const body = h("div", { class: "body" });
  const element = h(
    "section", { id, class: "block", "aria-labelledby": `${id}-title` },
    h("header", {}, h("h2", { id: `${id}-title` }, title), h("div", { class: "controls" }, ...controls), h("p", { class: "reading" }, reading)),
    body,
  );
  return { element, body };
}

/** A `?` that explains a number: it opens on click, Enter and focus, and Escape closes it. */
export function explained(text: string, label: string): HTMLElement {
  return h("details", { class: "why" }, h("summary", { "aria-label": label }, "?"), h("p", {}, text));
}
