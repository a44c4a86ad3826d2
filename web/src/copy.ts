// Copy a text, also where the clipboard is not allowed (a sandboxed frame).

import { h } from "./dom";
import { texts } from "./language";

const t = texts({ copy: "Copy", copied: "Copied" }, { copy: "复制", copied: "已复制" });
const SHOWN_MS = 1500;

export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "visually-hidden", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** A button that copies what `text` returns at that moment, and says so. */
export function copyButton(text: () => string, label: string, shown = t("copy")): HTMLButtonElement {
  const button = h("button", { type: "button", class: "copy", "aria-label": label, title: label }, shown);
  const said = h("span", { class: "visually-hidden", role: "status" });
  button.append(said);
  button.addEventListener("click", async () => {
    if (!(await copyText(text()))) return;
    button.style.minWidth = `${button.offsetWidth}px`; // nothing beside it moves
    button.firstChild!.textContent = t("copied");
    said.textContent = t("copied");
    setTimeout(() => {
      button.firstChild!.textContent = shown;
      said.textContent = "";
    }, SHOWN_MS);
  });
  return button;
}
