// The modules that cost most by the chosen measure: what they own and do themselves, equal ones summed.

import type { App } from "../../app";
import { type Box, boxField, heaviest } from "../../boxes";
import { h, replace } from "../../dom";
import { figure } from "../../figure";
import { share } from "../../format";
import { texts } from "../../language";
import { measured, measuresOf } from "../../measures";
import { switcher } from "../../switcher";

const t = texts(
  { title: "Heaviest", measure: "Measure", none: "No module has a cost by this measure." },
  { title: "开销最大的模块", measure: "度量", none: "按这个度量没有开销。" },
);

const SHOWN = 5;

export function heaviestCard(app: App): HTMLElement {
  const { model } = app;
  const options = measuresOf(model).map(({ key, label }) => ({ key, label }));
  const picker = switcher(t("measure"), options, (measure) => app.set({ measure }));
  const list = h("ol", {});
  const draw = () => {
    const { key, cost, format } = measured(model, app.state.measure);
    picker.show(key);
    const whole = model.total(model.root, cost);
    const top = heaviest(model, cost, SHOWN);
    const row = (box: Box) => {
      const path = box.parts[0]!.path;
      const selected = box.parts.some((part) => part.path === app.state.selected);
      return h(
        "li", { class: "line" },
        h(
          "button", { type: "button", class: "heavy", title: box.name, "aria-pressed": String(selected), onclick: () => app.select(path) },
          h("span", { class: "fill", style: `width:${(100 * box.own) / top[0]!.own}%` }),
          h("span", { class: "name" }, h("bdi", {}, box.name)), " ",
          h("span", { class: "dim" }, box.parts.length > 1 && `× ${box.parts.length}`), " ",
          h("span", { class: "value" }, figure(boxField("own", box, cost), box.own, format(box.own))), " ",
          h("span", { class: "dim share" }, share(box.own, whole)),
        ),
      );
    };
    replace(list, ...(top.length ? top.map(row) : [h("li", { class: "empty" }, t("none"))]));
  };
  app.on((changed) => (changed.has("measure") || changed.has("selected")) && draw());
  draw();
  return h("div", { class: "card heaviest" }, h("h3", {}, t("title")), options.length > 1 && picker.element, list);
}
