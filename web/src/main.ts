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
  choose(data.language);
  const app = new App(data);
  const theme = () => {
    document.documentElement.dataset["theme"] = app.state.theme;
  };
  app.on((changed) => changed.has("theme") && theme());
  theme();
  const main = h("main");
  document.getElementById("app")!.replaceChildren(header(app), main, selectionBar(app));
  // The first views are painted before the rest is made.
  const waiting = views.filter((view) => view.shows(app));
  const next = () => {
    const view = waiting.shift();
    if (!view) return document.documentElement.setAttribute("data-ready", "");
    main.append(view.make(app));
    if (waiting.length) setTimeout(next);
    else document.documentElement.setAttribute("data-ready", "");
  };
  next();
}

start();
