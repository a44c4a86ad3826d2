// Start: read the data that stands in the file, draw every view.

import "./styles.css";
import { App } from "./app";
import { h } from "./dom";
import { choose } from "./language";
import type { PageData } from "./types";
import { header } from "./views/header";
import { selectionBar } from "./views/selection";
import { views } from "./views";

function start(): void {
  const data = JSON.parse(document.getElementById("data")!.textContent!) as PageData;
  const app = new App(data);
  draw(app);
}

/** Make all views: at the start, and again in another language. */
function draw(app: App): void {
  choose(app.state.language ?? app.data.language);
  const theme = () => {
    document.documentElement.dataset["theme"] = app.state.theme;
  };
  // First, so that views read the colours of the new theme.
  app.on((changed) => changed.has("theme") && theme());
  app.on((changed) => {
    if (!changed.has("language")) return;
    app.forget();
    draw(app);
  });
  theme();
  const main = h("main");
  document.documentElement.removeAttribute("data-ready");
  document.getElementById("app")!.replaceChildren(header(app), main, selectionBar(app));
  // The first views are painted before the rest is made.
  const waiting = views.filter((view) => view.shows(app));
  const { signal } = app;
  const next = () => {
    if (signal.aborted) return;
    const view = waiting.shift();
    if (view) main.append(view.make(app));
    if (waiting.length) setTimeout(next);
    else document.documentElement.setAttribute("data-ready", "");
  };
  next();
}

start();
