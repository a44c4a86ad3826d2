// A layer's path as a button that selects it, pressed while it is the selected one.

import type { App } from "../../app";
import { h } from "../../dom";

export function selectable(app: App, path: string, name = path || app.model.root.name): HTMLElement {
  const button = h("button", { type: "button", class: "layer", title: name, onclick: () => app.select(path) }, h("bdi", {}, name));
  const mark = () => button.setAttribute("aria-pressed", String(app.state.selected === path));
  app.on((changed) => changed.has("selected") && mark());
  mark();
  return button;
}
