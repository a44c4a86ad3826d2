// Combinations that nothing traced beats in both figures: a dot each, numbered as in the list below.

import { h } from "../../dom";
import { figure } from "../../figure";
import { texts, told } from "../../language";
import { signedShare } from "../../signed";
import type { Advised, Shift } from "../../types";
import { badge } from "./card";
import { figureName, figureText, isChanged } from "./shifts";

const t = texts(
  {
    title: "Combinations", reading: "Changes made together and traced together. No other combination that was traced is better in both figures without losing more accuracy.",
    start: "as it is", dots: "{x} to the right, {y} upwards: less of both is better.",
  },
  {
    title: "组合", reading: "这些改动一起完成、一起追踪。在不损失更多精度的前提下，试过的组合中没有两项数值都更好的。",
    start: "原样", dots: "横轴为{x}，纵轴为{y}：两者都是越小越好。",
  },
);

/** Room around the outermost dots, as a share of the picture. */
const MARGIN = 0.09;

interface Dot {
  index: number;
  /** Places of the two figures in the list of the combination. */
  places: [number, number];
  x: number;
  y: number;
}

export function frontBlock({ advice, chinese }: Advised): HTMLElement | null {
  const [xName, yName] = advice.front_axes ?? [];
  if (xName === undefined || yName === undefined) return null;
  const dots = (advice.front ?? []).flatMap(({ figures }, index) => dotOf(figures, index, xName, yName));
  if (dots.length < 2) return null;
  const rows = dots.map(({ index, places, x, y }) => {
    const { changes, accuracy, figures } = advice.front![index]!;
    const value = (name: string, place: number, now: number) => h(
      "span", { class: "value" },
      figure(`advice.front.${index}.figures.${place}.after`, now, figureText(name, now)),
      changes.length && isChanged(figures[place]!) ? h("span", { class: "dim" }, ` ${signedShare(figures[place]!.before!, now)}`) : null,
    );
    return h(
      "li", {},
      h("span", { class: "changes" }, changes.length ? h("bdi", {}, changes.map((one) => told(one, chinese)).join(" + ")) : h("span", { class: "dim" }, t("start"))),
      badge(accuracy), value(xName, places[0], x), value(yName, places[1], y),
    );
  });
  return h(
    "div", { class: "front" },
    h("h3", {}, t("title")), h("p", { class: "dim" }, t("reading")),
    picture(dots, xName, yName, dots.map(({ index }) => advice.front![index]!.accuracy)),
    h("ol", {}, ...rows),
  );
}

function dotOf(figures: Shift[], index: number, xName: string, yName: string): Dot[] {
  const places: [number, number] = [figures.findIndex(({ name }) => name === xName), figures.findIndex(({ name }) => name === yName)];
  const [x, y] = places.map((place) => figures[place]?.after ?? null);
  return typeof x === "number" && typeof y === "number" ? [{ index, places, x, y }] : [];
}

/** Made of elements that stretch, so that texts keep their size on a phone. */
function picture(dots: Dot[], xName: string, yName: string, accuracies: ("none" | "small" | "retrain")[]): HTMLElement {
  const [toX, toY] = [scale(dots.map(({ x }) => x)), scale(dots.map(({ y }) => y))];
  const xs = dots.map(({ x }) => x);
  const ys = dots.map(({ y }) => y);
  const end = (kind: string, name: string, value: number) => h("span", { class: `end ${kind}` }, figureText(name, value));
  return h(
    "div", { class: "plot", role: "img", "aria-label": t("dots", { x: figureName(xName), y: figureName(yName) }) },
    h("span", { class: "axis y" }, figureName(yName)),
    h("div", { class: "room" },
      ...dots.map(({ x, y }, number) => h("span", { class: `dot ${accuracies[number]}`, style: `left:${toX(x)}%;bottom:${toY(y)}%` }, String(number + 1))),
      end("top", yName, Math.max(...ys)), end("bottom", yName, Math.min(...ys))),
    h("span", { class: "axis x" }, h("span", {}, figureText(xName, Math.min(...xs))), h("span", {}, figureName(xName)), h("span", {}, figureText(xName, Math.max(...xs)))),
  );
}

function scale(values: number[]): (value: number) => number {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return (value) => 100 * (high > low ? MARGIN + ((1 - 2 * MARGIN) * (value - low)) / (high - low) : 0.5);
}
