// The bar of a live page: one control for each thing that can be asked otherwise.

import "./bar.css";
import { copyButton } from "../copy";
import { h, replace } from "../dom";
import { texts } from "../language";
import { visible } from "../visible";
import { modeName, phaseName } from "../words";
import type { Session } from "./session";
import { showStatus } from "./status";
import { isTraining, NAMES, type Name, type Values } from "./workbench";

const t = texts(
  {
    label: "What if", mode: "Mode", "batch-size": "Batch size", "input-size": "Input size", context: "Context length",
    precision: "Precision", optimizer: "Optimizer", checkpointing: "Activation checkpointing", accumulation: "Gradient accumulation", device: "Device",
    half: "Halve", double: "Double", off: "off", asBuilt: "as built",
    pin: "Pin as baseline", pinTitle: "Compare what follows with what is shown now", reset: "Reset", resetTitle: "Go back to what the command asked",
    command: "The same in a terminal", copy: "Copy the command", analysing: "Analysing", waiting: "Waiting for another tab",
    starting: "Starting", drawing: "Preparing the page", seconds: "{n} s", building: "Building the model",
    whole: "Write a whole number of 1 or more", changedFrom: "was {value}", deviceHint: "Type to search",
    without: "without the applied changes",
  },
  {
    label: "假设分析", mode: "模式", "batch-size": "批大小", "input-size": "输入尺寸", context: "上下文长度",
    precision: "精度", optimizer: "优化器", checkpointing: "梯度检查点", accumulation: "梯度累积", device: "设备",
    half: "减半", double: "加倍", off: "关闭", asBuilt: "按模型原样",
    pin: "固定为基线", pinTitle: "之后的结果都与当前结果比较", reset: "重置", resetTitle: "恢复到命令行最初的设置",
    command: "对应的终端命令", copy: "复制命令", analysing: "正在分析", waiting: "等待另一个标签页",
    starting: "正在启动", drawing: "正在准备页面", seconds: "{n} 秒", building: "正在构建模型",
    whole: "请输入不小于 1 的整数", changedFrom: "原为 {value}", deviceHint: "输入以搜索",
    without: "不含已应用的改动",
  },
);

interface Control {
  element: HTMLElement;
  update(values: Values): void;
}

/** `above` stands in the bar, over the controls. */
export function whatIf(session: Session, above: HTMLElement | null = null): HTMLElement {
  const controls = NAMES.filter((name) => session.bench.models.some(({ values }) => values[name] !== null || name === "optimizer"))
    .map((name) => control(session, name));
  const pin = h("button", { type: "button", title: t("pinTitle"), onclick: () => session.pin() }, t("pin"));
  const reset = h("button", { type: "button", title: t("resetTitle"), onclick: () => session.reset() }, t("reset"));
  const status = h("div", { class: "status", role: "status" });
  const failed = h("p", { class: "failed", role: "alert", hidden: true });
  const command = h("code", {});
  const without = h("span", { class: "without" }, t("without"));
  const bar = h(
    "section", { class: "what-if", "aria-label": t("label") },
    above,
    h("form", { onsubmit: (event: Event) => event.preventDefault() }, ...controls.map(({ element }) => element)),
    h(
      "div", { class: "below" },
      h("div", { class: "command", title: t("command") }, command, copyButton(() => session.outcome.command, t("copy")), without),
      status, h("div", { class: "actions" }, pin, reset), failed,
    ),
  );
  const update = () => {
    for (const one of controls) one.update(session.values);
    pin.disabled = session.isPinnedHere;
    reset.disabled = session.isFirst;
    command.textContent = command.title = visible(session.outcome.command);
    without.hidden = !session.outcome.applied.length;
    bar.toggleAttribute("data-busy", session.status.kind === "busy");
    showStatus(session.status, status, failed, progressText, () => session.cancel());
  };
  session.on(update);
  update();
  return bar;
}

export function progressText(text: string): string {
  if (text === "waiting" || text === "starting" || text === "drawing") return t(text);
  if (text.startsWith("building ")) return t("building");
  return text ? `${t("analysing")} · ${phaseName(text)}` : t("analysing");
}

// ------------------------------------------------------------------------ controls

let made = 0;

/** A labelled control, marked where its value is not the first one. */
function labelled(name: Name, input: HTMLElement, extra: HTMLElement | null = null): HTMLElement {
  input.id = `what-if-${name}-${made++}`;
  input.setAttribute("data-name", name);
  return h("div", { class: "control" }, h("label", { for: input.id }, t(name)), extra ?? input);
}

const unfinished = new WeakSet<HTMLInputElement>();

/** Leaves a field alone from its first key until its value is taken or the field is left. */
function typed(input: HTMLInputElement): HTMLInputElement {
  input.addEventListener("input", () => unfinished.add(input));
  for (const end of ["change", "blur"]) input.addEventListener(end, () => unfinished.delete(input), { capture: true });
  return input;
}

function fill(input: HTMLInputElement, value: string): void {
  if (!unfinished.has(input) && input.value !== value) input.value = value;
}

function control(session: Session, name: Name): Control {
  if (name === "batch-size" || name === "context" || name === "accumulation") return numberControl(session, name);
  if (name === "input-size") return sizeControl(session);
  if (name === "device") return deviceControl(session);
  return choiceControl(session, name);
}

function mark(session: Session, name: Name, element: HTMLElement): void {
  element.classList.toggle("changed", session.isChanged(name));
  const first = session.bench.models[session.now.model]!.values[name];
  element.title = session.isChanged(name) && first !== null ? t("changedFrom", { value: String(first) }) : "";
}

function choiceControl(session: Session, name: "mode" | "precision" | "optimizer" | "checkpointing"): Control {
  const shown = (value: string) =>
    name === "mode" ? modeName(value) : value === "off" ? t("off") : value === "as-built" ? t("asBuilt") : value;
  const select = h(
    "select", { onchange: () => session.set(name, select.value) },
    ...session.bench.choices[name].map((value) => h("option", { value }, shown(value))),
  );
  const element = labelled(name, select);
  return {
    element,
    update(values) {
      const value = values[name];
      select.disabled = isTraining(name) && values.mode !== "training";
      // An optimizer of the user's own, a kind that was only asked on the command line.
      if (value !== null && ![...select.options].some((option) => option.value === value)) select.append(h("option", { value }, value));
      select.value = value ?? "";
      mark(session, name, element);
    },
  };
}

function numberControl(session: Session, name: "batch-size" | "context" | "accumulation"): Control {
  const input = typed(h("input", { type: "number", min: 1, step: 1, inputmode: "numeric", autocomplete: "off" }));
  const take = () => {
    const value = Number(input.value);
    const isWhole = Number.isInteger(value) && value >= 1 && value <= 2 ** 40;
    input.setCustomValidity(isWhole ? "" : t("whole"));
    if (!isWhole) return void input.reportValidity();
    unfinished.delete(input);
    session.set(name, value);
  };
  input.addEventListener("input", () => input.value && take());
  input.addEventListener("change", take);
  const scale = (factor: number) => () => {
    input.value = String(Math.max(1, Math.floor((session.values[name] ?? 1) * factor)));
    take();
  };
  const half = h("button", { type: "button", "aria-label": `÷2 ${t(name)}`, title: t("half"), onclick: scale(0.5) }, "÷2");
  const double = h("button", { type: "button", "aria-label": `×2 ${t(name)}`, title: t("double"), onclick: scale(2) }, "×2");
  const element = labelled(name, input, h("div", { class: "number" }, input, half, double));
  return {
    element,
    update(values) {
      const value = values[name];
      const isOff = value === null || (isTraining(name) && values.mode !== "training");
      for (const one of [input, half, double]) one.disabled = isOff;
      if (document.activeElement !== input || Number(input.value) !== value) fill(input, value === null ? "" : String(value));
      element.hidden = value === null && name === "context";
      mark(session, name, element);
    },
  };
}

function sizeControl(session: Session): Control {
  const fields = h("div", { class: "number" });
  const element = h("div", { class: "control" }, h("span", { class: "name" }, t("input-size")), fields);
  const take = () => session.set("input-size", [...fields.querySelectorAll("input")].map((input) => input.value.trim()));
  return {
    element,
    update(values) {
      const sizes = values["input-size"];
      const inputs = [...fields.querySelectorAll("input")];
      if (inputs.length !== sizes.length) {
        const label = (index: number) => (sizes.length > 1 ? `${t("input-size")} ${index + 1}` : t("input-size"));
        replace(fields, ...sizes.map((_, index) => typed(h("input", { class: "size", type: "text", "aria-label": label(index), "data-name": "input-size", placeholder: "3,224,224", spellcheck: "false", autocomplete: "off", onchange: take }))));
      }
      fields.querySelectorAll("input").forEach((input, index) => fill(input, sizes[index]!));
      element.hidden = !sizes.length;
      mark(session, "input-size", element);
    },
  };
}

function deviceControl(session: Session): Control {
  const list = h("datalist", { id: "what-if-devices" }, ...session.bench.choices.device.map(({ name, about }) => h("option", { value: name }, about)));
  const input = typed(h("input", {
    class: "device", type: "text", list: "what-if-devices", spellcheck: "false", autocomplete: "off", placeholder: t("deviceHint"),
    // A full field would only offer itself; empty, it offers all.
    onfocus: () => input.select(),
    onchange: () => input.value.trim() ? session.set("device", input.value.trim()) : (input.value = session.values.device),
  }));
  const element = labelled("device", input);
  element.append(list);
  return {
    element,
    update(values) {
      fill(input, values.device);
      mark(session, "device", element);
    },
  };
}
