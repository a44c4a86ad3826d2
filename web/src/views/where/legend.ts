// Which colour is which type of module, and what share each type has.

import { h } from "../../dom";
import type { CostName, Model } from "../../model";
import { typeColor } from "../../palette";
import { texts } from "../../language";

const t = texts({ label: "Types of module", others: "others" }, { label: "模块类型", others: "其他" });

export function legend(model: Model, cost: CostName, format: (value: number) => string): HTMLElement {
  const sums = new Map<string, { names: Set<string>; value: number }>();
  for (const part of model.parts) {
    const value = model.own(part, cost);
    if (value <= 0) continue;
    const color = typeColor(model, part.module.type);
    const found = sums.get(color) ?? { names: new Set<string>(), value: 0 };
    found.names.add(part.module.type);
    found.value += value;
    sums.set(color, found);
  }
  const rows = [...sums].sort((a, b) => b[1].value - a[1].value);
  return h(
    "ul", { class: "legend", "aria-label": t("label") },
    ...rows.map(([color, { names, value }]) => {
      const name = names.size === 1 ? [...names][0]! : t("others");
      return h("li", { title: names.size > 1 ? [...names].slice(0, 20).join(", ") : name }, h("span", { class: "swatch", style: `background:var(--${color})` }), h("bdi", {}, name), h("span", { class: "dim" }, format(value)));
    }),
  );
}
