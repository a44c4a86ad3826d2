// Elements without a framework. Text is always a text node: nothing from the data is parsed, and
// nothing in it turns the text around or steers a terminal that it is copied to.

import { visible } from "./visible";

export type Child = Node | string | null | undefined | false;
/** Attributes that are read; the others are compared with the data. */
const READ = new Set(["title", "aria-label", "placeholder"]);
type Attributes = Record<string, string | number | boolean | null | undefined | ((event: any) => void)>;

/** h("button", {class: "chip", onclick: go}, "Go") */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Attributes = {}, ...children: Child[]
): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s<K extends keyof SVGElementTagNameMap>(
  tag: K, attributes: Attributes = {}, ...children: Child[]
): SVGElementTagNameMap[K] {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill<E extends Element>(element: E, attributes: Attributes, children: Child[]): E {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : READ.has(name) ? visible(String(value)) : String(value));
  }
  element.append(...shown(children));
  return element;
}

export function replace(element: Element, ...children: Child[]): void {
  element.replaceChildren(...shown(children));
}

function shown(children: Child[]): (Node | string)[] {
  return children
    .filter((child): child is Node | string => child !== null && child !== undefined && child !== false)
    .map((child) => (typeof child === "string" ? visible(child) : child));
}
