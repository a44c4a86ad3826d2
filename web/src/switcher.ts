// A row of buttons of which one is on: the measure, the axis.

import { h } from "./dom";

export interface Switcher<K extends string> {
  element: HTMLElement;
  show(key: K): void;
}

export function switcher<K extends string>(label: string, options: readonly { key: K; label: string }[], pick: (key: K) => void): Switcher<K> {
  const buttons = new Map(options.map(({ key, label: text }) => [key, h("button", { type: "button", "data-key": key, onclick: () => pick(key) }, text)]));
  return {
    element: h("div", { class: "switcher", role: "group", "aria-label": label }, ...buttons.values()),
    show(key) {
      for (const [one, button] of buttons) button.setAttribute("aria-pressed", String(one === key));
    },
  };
}
