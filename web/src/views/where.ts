// Where the model is heavy: an icicle of the module tree, wide where a module costs much.

import "./where.css";
import type { App } from "../app";
import { h, replace } from "../dom";
import { share } from "../format";
import { texts } from "../language";
import { measured, measuresOf } from "../measures";
import type { Part } from "../model";
import { switcher } from "../switcher";
import { block, explained } from "../view";
import type { View } from "./index";
import { Icicle } from "./where/icicle";
import { legend } from "./where/legend";

const t = texts(
  {
    title: "Where", reading: "Each box is a module, as wide as its share; below it is what it holds. Click to zoom in, click the top box to zoom out.",
    measure: "Measure", path: "Zoomed to", why: "How the parts are summed", outside: "{time} belongs to no module: the loss, the optimizer and autograd's own work.",
    none: "No module has a cost by this measure.", whole: "whole model",
  },
  {
    title: "在哪里", reading: "每个方框是一个模块，越宽占比越大；下方是它包含的模块。点击放大，点击最上方的方框缩小。",
    measure: "度量", path: "当前放大到", why: "如何求和", outside: "{time} 不属于任何模块：损失、优化器和自动求导本身的开销。",
    none: "按这个度量，没有模块有开销。", whole: "整个模型",
  },
);

export const where: View = {
  shows: () => true,
  make(app: App): HTMLElement {
    const { model } = app;
    const picker = switcher(t("measure"), measuresOf(model).map(({ key, label }) => ({ key, label })), (measure) => app.set({ measure }));
    const why = h("span", {});
    const { element, body } = block("where", t("title"), t("reading"), picker.element, why);
    const path = h("nav", { class: "crumbs", "aria-label": t("path") });
    const readout = h("p", { class: "readout" });
    const empty = h("p", { class: "empty", hidden: true }, t("none"));
    const types = h("div", {});
    const note = h("p", { class: "dim note" });
    const icicle = new Icicle(app, (text) => replace(readout, text), () => crumbs());
    body.append(path, icicle.element, empty, readout, types, note);

    const crumbs = () => {
      const way: Part[] = [];
      for (let at: Part | null = icicle.zoom; at; at = at.parent) way.unshift(at);
      const last = way.length - 1;
      replace(path, ...way.map((part, index) =>
        h("button", { type: "button", "aria-current": index === last ? "true" : null, onclick: () => icicle.zoomTo(part) }, h("bdi", {}, part.name))));
    };
    const draw = () => {
      const measure = measured(model, app.state.measure);
      picker.show(measure.key);
      replace(why, explained(measure.why, t("why")));
      const whole = model.total(model.root, measure.cost);
      empty.hidden = whole > 0;
      icicle.element.hidden = whole <= 0;
      icicle.draw();
      replace(types, whole > 0 && legend(model, measure.cost, (value) => `${measure.format(value)} · ${share(value, whole)}`));
      const outside = model.report.time?.outside_ms ?? 0;
      note.hidden = measure.key !== "time" || outside <= 0;
      note.textContent = t("outside", { time: measure.format(outside) });
    };
    app.on((changed) => {
      if (changed.has("measure")) draw();
      if (changed.has("selected")) icicle.follow(app.state.selected);
    });
    crumbs();
    draw();
    icicle.follow(app.state.selected);
    return element;
  },
};
