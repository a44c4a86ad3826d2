// Copy a text, also where the clipboard is not allowed (a sandboxed frame).

import { h } from "./dom";
import { texts } from "./language";

const t = texts(
  { copy: "Copy", copied: "Copied", not: "Not copied: the browser forbids it" },
  { copy: "复制", copied: "已复制", not: "未复制：浏览器不允许" },
);
const SHOWN_MS = 1500;

/** Returns whether the browser took it. */
export async function copyText(text: string): Promise<boolean> {
  try {
    if (!mayWrite()) return selectedAndCopied(text);
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return selectedAndCopied(text);
  }
}

/** Chromium writes an error to the console where a frame asks for what its policy forbids, caught or not. */
function mayWrite(): boolean {
  const { featurePolicy } = document as { featurePolicy?: { allowsFeature(name: string): boolean } };
  return featurePolicy?.allowsFeature("clipboard-write") ?? true;
}

function selectedAndCopied(text: string): boolean {
  const area = h("textarea", { class: "visually-hidden", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

/** A button that copies what `text` returns at that moment, and says so. */
export function copyButton(text: () => string, label: string, shown = t("copy")): HTMLButtonElement {
  const button = h("button", { type: "button", class: "copy", "aria-label": label, title: label }, shown);
  const said = h("span", { class: "visually-hidden", role: "status" });
  button.append(said);
  button.addEventListener("click", async () => {
    const outcome = t((await copyText(text())) ? "copied" : "not");
    button.style.minWidth = `${button.offsetWidth}px`; // nothing beside it moves
    button.firstChild!.textContent = outcome;
    said.textContent = outcome;
    setTimeout(() => {
      button.firstChild!.textContent = shown;
      said.textContent = "";
    }, SHOWN_MS);
  });
  return button;
}
