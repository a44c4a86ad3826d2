// What the graph says, in both languages.

import { texts } from "../../language";

export const t = texts(
  {
    title: "How", details: "The selected part", reading: "What flows where, from top to bottom. + opens a box in place, − closes it; a click selects. With the keyboard: arrows follow the edges, Enter selects.",
    why: "A box is a module call, a pill is an operator that a module does itself. × N stands for N equal neighbours, and an open one shows one of them. A module that is called several times has a box for each call (1/2, 2/2). Views such as reshape are left out. An edge leads from the part that writes a tensor to the part that reads it. Edges from outside enter an open box at its top. The graph shows the first forward pass.",
    whyLabel: "What the graph shows", canvas: "Graph of the model", tree: "Modules and operators; arrows follow the edges",
    zoomIn: "Zoom in", zoomOut: "Zoom out", fit: "Fit", openLevel: "Open one level", closeAll: "Close all", keys: "Keys",
    input: "input", output: "output", operator: "operator", group: "{n} parts", fold: "{n} equal modules", callOf: "call {k} of {n}", failedHere: "failed here", failedInside: "failed inside",
    open: "Open", close: "Close", previous: "Previous copy", next: "Next copy", copyOf: "{k} of {n} copies", from: "From", to: "To", inputShapes: "Takes", outputShapes: "Returns",
    params: "Parameters", macs: "MACs", activation: "Activation memory", time: "Time", noShape: "shape unknown", guess: "was called after this, and failed", several: "{n} reads, the largest {shape}",
    nothing: "Select a part of the graph to see its shapes, figures and neighbours here.", legendLeaf: "module, coloured by type", legendOpen: "module with modules inside", legendOperator: "operator of a module", legendFold: "equal neighbours, folded",
    legendFailed: "failed", legendSelected: "selected", noRun: "The model did not run. Give an input size to see the graph.", loaded: "A saved or measured report holds no graph. Analyze the model again to see it.",
    empty: "No module was called.", failed: "Failed in {path}", rootSelected: "This is the whole graph.", more: "{n} more", hint: "Try",
  },
  {
    title: "怎样计算", details: "当前查看的部分", reading: "数据自上而下的流向。+ 就地展开，− 收起；单击选择。键盘：方向键沿边移动，Enter 选择。",
    why: "方框是一次模块调用，圆角小框是模块自身执行的算子。× N 表示 N 个相同的相邻模块，展开后显示其中一个。被多次调用的模块，每次调用各有一个方框（1/2、2/2）。reshape 之类的视图操作不画出：边从写入张量的部分指向读取它的部分。来自外部的边从展开框的顶部进入。图中是第一次前向传播。",
    whyLabel: "图中显示什么", canvas: "模型的计算图", tree: "模块和算子；方向键沿边移动",
    zoomIn: "放大", zoomOut: "缩小", fit: "适应窗口", openLevel: "展开一层", closeAll: "全部收起", keys: "按键",
    input: "输入", output: "输出", operator: "算子", group: "{n} 个部分", fold: "{n} 个相同的模块", callOf: "第 {k} 次调用，共 {n} 次", failedHere: "在此失败", failedInside: "内部失败",
    open: "展开", close: "收起", previous: "上一个", next: "下一个", copyOf: "第 {k} 个，共 {n} 个", from: "来自", to: "去往", inputShapes: "输入", outputShapes: "输出",
    params: "参数量", macs: "乘加次数", activation: "激活值显存", time: "时间", noShape: "形状未知", guess: "在此之后被调用并失败", several: "读取 {n} 次，最大的为 {shape}",
    nothing: "选择图中的一个部分，这里会显示它的形状、数字和相邻部分。", legendLeaf: "模块，颜色表示类型", legendOpen: "内含子模块", legendOperator: "模块自身的算子", legendFold: "折叠的相同模块",
    legendFailed: "失败", legendSelected: "所选", noRun: "模型没有运行，因此没有数据流。给出输入尺寸即可看到计算图。", loaded: "保存的或实测的报告不含计算图。重新分析模型即可看到。",
    empty: "没有模块被调用。", failed: "在 {path} 失败", rootSelected: "这就是整张图。", more: "还有 {n} 个", hint: "建议",
  },
);
