// Start: read the data that stands in the file, draw every view.

import "./styles.css";
import { App } from "./app";
import { h } from "./dom";
import { choose } from "./language";
import { whole } from "./lean";
import { advicePanel } from "./live/advice";
import { whatIf } from "./live/bar";
import { besides } from "./live/besides";
import { follow } from "./live/follow";
import { Session } from "./live/session";
import { sinceBlock } from "./live/since";
import { Versions } from "./live/versions";
import { watchLine } from "./live/watch";
import type { PageData } from "./types";
import { header } from "./views/header";
import { selectionBar } from "./views/selection";
import { views } from "./views";

interface Page {
  app: App;
  session: Session | null;
  /** Of a page that follows the files of a model. */
  versions: Versions | null;
}

function start(): void {
  const data = whole(JSON.parse(document.getElementById("data")!.textContent!)) as PageData;
  if (data.watch) return watch(data);
  open(data, null);
}

/** Show the first answers. */
function open(data: PageData, versions: Versions | null): Page {
  const app = new App(data);
  const page: Page = { app, session: null, versions };
  if (data.workbench) {
    page.session = new Session(app, data.workbench, (answers, layers) => {
      app.forget();
      const { layers: _, ...rest } = app.data;
      app.replace({ ...rest, answers, ...(layers && { layers }) });
      redraw(page);
    });
  }
  draw(page);
  page.session?.start();
  return page;
}

/** Wait for the first version that can be analysed, then show each as it comes. */
function watch(data: PageData): void {
  let page: Page | null = null;
  const versions = new Versions(data.watch!.spec, onGood, () => page!.session!.compareWith(versions.compared));
  function onGood(): void {
    const { model } = versions.now!;
    const answer = versions.answer(versions.number);
    if (page) return page.session!.renew(model, answer, versions.compared);
    versions.forget();
    page = open({ ...data, answers: [answer], workbench: { ...data.workbench!, models: [model] } }, versions);
    page.session!.compareWith(versions.compared);
  }
  choose(new URLSearchParams(location.hash.slice(1)).get("language") ?? data.language);
  document.getElementById("app")!.replaceChildren(h("main", {}, h("h1", {}, h("bdi", {}, data.watch!.spec)), watchLine(versions, true)));
  void follow(() => versions.number, (news) => versions.take(news));
}

/** Make the page: at the start, and again in another language. */
function draw(page: Page): void {
  const { app, session, versions } = page;
  choose(app.state.language ?? app.data.language);
  session?.forget();
  versions?.forget();
  const bars = session ? [whatIf(session, versions && watchLine(versions, false)), besides(session)] : [];
  if (versions) bars.push(sinceBlock(versions));
  if (session) bars.push(advicePanel(session));
  document.getElementById("app")!.replaceChildren(h("header"), ...bars, h("main"), h("footer"));
  redraw(page);
}

/**
 * Make every view in the place of the one before, so that the page neither jumps nor loses its
 * scroll position. The bar of a live page stays, with what is typed there.
 */
function redraw(page: Page): void {
  const { app } = page;
  const theme = () => {
    document.documentElement.dataset["theme"] = app.state.theme;
  };
  // First, so that views read the colours of the new theme.
  app.on((changed) => changed.has("theme") && theme());
  app.on((changed) => {
    if (!changed.has("language")) return;
    app.forget();
    draw(page);
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
