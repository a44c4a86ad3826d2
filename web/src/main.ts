// Start: read the data that stands in the file, draw every view.

import "./styles.css";
import { App } from "./app";
import { h } from "./dom";
import { choose } from "./language";
import { advicePanel } from "./live/advice";
import { whatIf } from "./live/bar";
import { besides } from "./live/besides";
import { Session } from "./live/session";
import type { PageData } from "./types";
import { header } from "./views/header";
import { selectionBar } from "./views/selection";
import { views } from "./views";

function start(): void {
  const data = JSON.parse(document.getElementById("data")!.textContent!) as PageData;
  const app = new App(data);
  if (!data.workbench) return draw(app, null);
  const session = new Session(app, data.workbench, (answers) => {
    app.forget();
    app.replace({ ...app.data, answers });
    redraw(app, session);
  });
  draw(app, session);
  session.start();
}

/** Make the page: at the start, and again in another language. */
function draw(app: App, session: Session | null): void {
  choose(app.state.language ?? app.data.language);
  session?.forget();
  document.getElementById("app")!.replaceChildren(h("header"), ...(session ? [whatIf(session), besides(session), advicePanel(session)] : []), h("main"), h("footer"));
  redraw(app, session);
}

/**
 * Make every view in the place of the one before, so that the page neither jumps nor loses its
 * scroll position. The bar of a live page stays, with what is typed there.
 */
function redraw(app: App, session: Session | null): void {
  const theme = () => {
    document.documentElement.dataset["theme"] = app.state.theme;
  };
  // First, so that views read the colours of the new theme.
  app.on((changed) => changed.has("theme") && theme());
  app.on((changed) => {
    if (!changed.has("language")) return;
    app.forget();
    draw(app, session);
  });
  theme();
  document.documentElement.removeAttribute("data-ready");
  const place = document.getElementById("app")!;
  place.querySelector(":scope > header")!.replaceWith(header(app));
  place.querySelector(":scope > footer")!.replaceWith(selectionBar(app));
  fill(app, place.querySelector("main")!);
}

/** The first views are painted before the rest is made. */
function fill(app: App, main: HTMLElement): void {
  const shown = views.filter((view) => view.shows(app));
  const { signal } = app;
  const made: Element[] = [];
  const next = () => {
    if (signal.aborted) return;
    const view = shown[made.length];
    if (view) made.push(placed(main, view.make(app), made));
    if (made.length < shown.length) return void setTimeout(next);
    for (const old of [...main.children]) if (!made.includes(old)) old.remove();
    document.documentElement.setAttribute("data-ready", "");
  };
  next();
}

/** Put a view where its old one is, else after the one that was made last. */
function placed(main: HTMLElement, view: HTMLElement, made: Element[]): Element {
  const old = [...main.children].find((child) => child.id === view.id && !made.includes(child));
  if (old) old.replaceWith(view);
  else if (made.length) made[made.length - 1]!.after(view);
  else main.prepend(view);
  return view;
}

start();
