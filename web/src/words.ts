// Names of what the data name by a key: roles, phases, kinds of kernel, what bounds an operator.

import { language } from "./language";

type Names = Record<string, [en: string, zh: string]>;

const ROLES: Names = {
  parameter: ["parameters", "参数"],
  buffer: ["buffers", "缓冲区"],
  gradient: ["gradients", "梯度"],
  optimizer_state: ["optimizer states", "优化器状态"],
  input: ["inputs", "输入"],
  saved_activation: ["saved activations", "保存的激活值"],
  output: ["outputs", "输出"],
  temporary: ["temporaries", "临时张量"],
  workspace: ["workspaces", "工作区"],
  rounding: ["rounding", "对齐"],
  context: ["CUDA context", "CUDA 上下文"],
};

/** From the bottom of the picture to its top: what stays, then what comes and goes. */
export const ROLE_ORDER = [
  "parameter", "buffer", "optimizer_state", "gradient", "input", "saved_activation", "output",
  "temporary", "workspace", "rounding",
] as const;

const PHASES: Names = {
  forward: ["forward", "前向"],
  loss: ["loss", "损失"],
  backward: ["backward", "反向"],
  optimizer: ["optimizer", "优化器"],
};

const KINDS: Names = {
  matmul: ["matrix products", "矩阵乘"],
  convolution: ["convolutions", "卷积"],
  depthwise: ["depthwise convolutions", "深度卷积"],
  attention: ["attention", "注意力"],
  elementwise: ["element-wise", "逐元素"],
  broadcast: ["element-wise, broadcast", "逐元素（广播）"],
  cast: ["casts", "类型转换"],
  copy: ["copies", "拷贝"],
  norm: ["normalization", "归一化"],
  batch_norm: ["batch norm", "批归一化"],
  batch_statistics: ["batch statistics", "批统计量"],
  column_sums: ["sums of columns", "按列求和"],
  recurrent: ["recurrent layers", "循环层"],
  reduction: ["reductions", "归约"],
  pooling: ["pooling", "池化"],
  upsampling: ["upsampling", "上采样"],
  indexing: ["indexing", "索引"],
  multi_tensor: ["multi-tensor (optimizer)", "多张量（优化器）"],
  scalar: ["scalars", "标量"],
};

const BOUNDS: Names = {
  compute: ["compute", "计算"],
  memory: ["memory", "显存带宽"],
  launch: ["launch", "内核启动"],
};

const MODES: Names = { training: ["training", "训练"], inference: ["inference", "推理"] };

const named = (names: Names) => (key: string): string => {
  const found = Object.hasOwn(names, key) ? names[key] : undefined;
  return found ? found[language() === "zh" ? 1 : 0] : key.replaceAll("_", " ");
};

export const roleName = named(ROLES);
export const phaseName = named(PHASES);
export const kindName = named(KINDS);
export const boundName = named(BOUNDS);
export const modeName = named(MODES);

/** Without the overload and PyTorch's own library: "aten.add_.Tensor" → "add_", "torchvision.nms.default" → "torchvision.nms". */
export const operatorName = (name: string): string => name.split(".").slice(0, 2).join(".").replace(/^aten\./, "");
