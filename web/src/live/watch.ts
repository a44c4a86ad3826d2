// The line of a watched page: which version is shown, what is being analysed, what is broken.

import "./watch.css";
import { h, replace } from "../dom";
import { language, texts } from "../language";
import type { Broken } from "./follow";
import type { Versions } from "./versions";

const t = texts(
  {
    label: "Watch", version: "Version {n}", saved: "{files} saved", seconds: "{n} s after the save", start: "{n} s after the start", one: "1 file watched", files: "{n} files watched",
    analysing: "Analysing {what}", over: "The watch has ended", again: "Start torchgauge watch … --ui again, and open the address that it prints.",
    broken: "Version {n} could not be analysed", after: "{files} saved at {at}", tryThis: "Try: {hint}", stale: "Below are the figures of version {n}, the last one that could be analysed.",
    nothing: "Nothing can be shown yet. Fix the file, and this page updates.", lastGood: "last good",
  },
  {
    label: "监视", version: "版本 {n}", saved: "{files} 已保存", seconds: "保存后 {n} 秒", start: "启动后 {n} 秒", one: "监视 1 个文件", files: "监视 {n} 个文件",
    analysing: "正在分析 {what}", over: "监视已结束", again: "请重新运行 torchgauge watch … --ui，并打开它给出的新地址。",
    broken: "版本 {n} 无法分析", after: "{files} 保存于 {at}", tryThis: "建议：{hint}", stale: "下面是版本 {n} 的数值，即最后一个能够分析的版本。",
    nothing: "暂时没有可显示的内容。修复文件后，本页会自动更新。", lastGood: "最后可用",
  },
);

/** `alone` where there is nothing to show yet. */
export function watchLine(versions: Versions, alone: boolean): HTMLElement {
  const line = h("p", { class: "line", role: "status" });
  const broken = h("div", { class: "broken", role: "alert", tabindex: 0, hidden: true });
  const element = h("section", { class: alone ? "watch alone" : "watch", "aria-label": t("label") }, line, broken);
  const update = () => {
    element.dataset["state"] = versions.isOver ? "over" : versions.saved || (!versions.now && !versions.broken) ? "busy" : versions.broken ? "broken" : "good";
    element.toggleAttribute("data-stale", versions.broken !== null);
    replace(line, h("span", { class: "light", "aria-hidden": "true" }), ...told(versions));
    broken.hidden = versions.broken === null;
    if (versions.broken) replace(broken, ...problem(versions.broken, versions));
    const name = versions.now ? versions.answer(versions.number).report.model.name : versions.spec;
    document.title = `${versions.broken ? "✕ " : ""}${name} · torchgauge`;
  };
  versions.on(update);
  update();
  return element;
}

function* told(versions: Versions): Generator<Node> {
  const now = versions.now?.version;
  if (now) {
    yield h("b", {}, t("version", { n: now.number }), versions.broken && ` (${t("lastGood")})`);
    if (now.files.length) yield h("span", {}, h("bdi", {}, t("saved", { files: now.files.join(", ") })), ` ${now.at}`);
    yield h("span", { class: "quiet" }, t(now.files.length ? "seconds" : "start", { n: now.seconds.toFixed(1) }));
    yield h("span", { class: "quiet" }, now.watched === 1 ? t("one") : t("files", { n: now.watched }));
  }
  if (versions.isOver) {
    yield h("b", {}, t("over"));
    yield h("span", { class: "quiet" }, t("again"));
  } else if (versions.saved) yield h("b", {}, h("bdi", {}, t("analysing", { what: versions.saved.join(", ") })));
  else if (!now && !versions.broken) yield h("b", {}, h("bdi", {}, t("analysing", { what: versions.spec })));
}

function* problem({ version, problems }: Broken, versions: Versions): Generator<Node | string> {
  const { message, hint } = problems[language()];
  const files = version.files.length ? `${t("after", { files: version.files.join(", "), at: version.at })} · ` : "";
  yield h("b", {}, t("broken", { n: version.number }));
  yield "\n";
  yield h("code", { dir: "ltr" }, message);
  if (hint) yield `\n${t("tryThis", { hint })}`;
  yield h("span", { class: "quiet" }, `\n${files}${versions.now ? t("stale", { n: versions.number }) : t("nothing")}`);
}
