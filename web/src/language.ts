// Texts in English and Chinese. A view declares its own: the type makes sure that none is missing.

export type Language = "en" | "zh";

let current: Language = "en";

export function choose(asked: string | null | undefined): Language {
  const wanted = asked ?? new URLSearchParams(location.search).get("lang") ?? navigator.language;
  current = wanted.toLowerCase().startsWith("zh") ? "zh" : "en";
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
  return current;
}

export const language = (): Language => current;

/** A sentence of the data, in the language of the page where that is known. */
export const told = (text: string, chinese: Record<string, string>): string => (current === "zh" ? (chinese[text] ?? text) : text);

/** const t = texts({title: "Where"}, {title: "在哪里"}); t("title"); "{n}" is filled from the second argument. */
export function texts<T extends Record<string, string>>(en: T, zh: { [K in keyof T]: string }) {
  return (key: keyof T & string, values: Record<string, string | number> = {}): string =>
    (current === "zh" ? zh[key] : en[key])!.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
