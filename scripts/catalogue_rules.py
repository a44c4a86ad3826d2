"""What a translator does not see, and the words that are put together at run time."""

from __future__ import annotations

import re

LEFT_OUT = {
    "cli/completion/": "scripts for shells",
    "compat/": "the texts of the tools that it stands for; programs compare them",
    "deploy/contents/card.py": "a file of a package: the model card",
    "deploy/contents/dockerfile.py": "a file of a package: the Dockerfile",
    "deploy/contents/lock.py": "a file of a package: its requirements",
    **dict.fromkeys(
        (
            f"deploy/serving/http/{name}.py"
            for name in (
                "application",
                "docs_page",
                "metrics",
                "nested",
                "openapi",
                "payload",
                "protocol",
                "responses",
            )
        ),
        "answers to programs over HTTP",
    ),
    "deploy/serving/channel.py": "messages between processes",
    "devices/data": "names and sources of devices",
    "environment/versions.py": "where the versions are from",
    "estimate/time/trace_file.py": "names inside a file for a trace viewer",
    "figures/axes.py": "drawn in figures, whose fonts may have no Chinese",
    "figures/graph/dot.py": "Graphviz",
    "figures/graph/drawing.py": "drawn in figures",
    "figures/graph/mermaid.py": "Mermaid",
    "figures/graph/texts.py": "drawn in figures",
    "integrations/": "raised in a user's own program, among the English of its libraries",
    "language/": "this is the translation",
    "web/data.py": "the page in the browser has texts of its own",
    "web/page.py": "the page in the browser has texts of its own",
    "render/formats/csv.py": "read by programs",
    "measure/timeline.py": "names inside a file for a trace viewer",
    "pytest_plugin/": "printed by pytest, which speaks English",
    "cli/modules.py": "names of modules",
    "oom/frames.py": "Python's own text",
    "oom/wordings.py": "PyTorch's own errors",
    "trace/kernels/cpu.py": "PyTorch's own errors, word for word: people search for them",
    "trace/kernels/cuda.py": "PyTorch's own errors",
    "trace/kernels/cuda_attention.py": "PyTorch's own errors",
    "trace/operators/": "PyTorch's own errors",
    "trace/shapes/": "PyTorch's own errors",
    "trace/values/readers.py": "PyTorch's own errors",
    "__init__.py": "the error of Python's import",
}
"""Rooms and files without a text to translate, and why."""

LABELLED = ("render/pages/", "render/tree/", "render/formats/", "environment/page.py", "cli/")
"""Where short texts are labels: titles of columns, headings, names of options' groups."""

_NAMES = """
    all cuda cpu dynamic depth columns expand calibrate command debug run text ascii torchgauge
    msgspec rich compiled numpy transformers triton nvidia-cuda-runtime nvidia-cudnn nvidia-nccl
    severity name problem commands torch Python right left macs params percent elementwise summed
    copies remarks row alternative type work ```sh ```text ```python CC SMs TDP MFU MACs
    FLOPs float32 float64 float16 bfloat16 float8_e4m3fn float8_e5m2 int64 int32 int16 int8 uint8
    bool complex64
    complex128 quiet activation peak saved layer ms kJ mJ tops tflops ops flops _reverse
    lang serve ONNX dtype width
    color against details spec set optimizer-option GITHUB_WORKSPACE bash
    zsh fish mcp
"""
NAMES = frozenset(_NAMES.split())
"""Words of the labelled files that are names of options, of fields, of dtypes: they stay."""

PATTERNS = frozenset(
    """\
does not require grad
doesn't require gradient
out of memory
maximum recursion depth exceeded
Length of all samples has to be greater than 0
Expected more than 1 value per channel
is only available for these backends
is only available for these backends:
with arguments from the 'CPU' backend
shape '.*' is invalid for input of size
Expected attn_mask dtype to be bool
can't allocate memory
not enough memory
driver/library version mismatch
elements are wrong
static TLS block
not a valid field
does not require grad and does not have a grad_fn
no kernel for meta tensors outside of an analysis
Made from a checkpoint's names.
Record Window End
Iteration Start: PyTorch Profiler
Guard failed
cat stack
cumsum cumprod
3 x 3, 8 to 16 channels
import torch
, model.
an
Name
_set_{1}(self, {2})
{1}ies
;padding-left:{1}em
batch_size
NVIDIA driver
offset points
Python tutorial, the module search path
""".splitlines()
) | {"# measured {1}\n{2}", "{1}[[device]]\nname = {2}\nbased_on = {3}\n{4}"}
"""What PyTorch or a system says, which the program looks for; names of cases."""

OF_ARGPARSE = (
    "usage: ", "options", "positional arguments", "show this help message and exit",
    "argument {1}: {2}", "expected one argument", "expected at least one argument",
    "the following arguments are required: {1}", "invalid {1} value: {2}",
    "unrecognized arguments: {1}", "ignored explicit argument {1}",
)  # fmt: skip
"""What Python's argparse says in ``--help`` and in errors."""

_ROLES = {
    "parameter": "parameters", "buffer": "buffers", "gradient": "gradients", "input": "inputs",
    "optimizer state": "optimizer states", "saved activation": "saved activations",
    "temporary": "temporaries", "workspace": "workspaces", "output": "outputs",
    "rounding": "rounding",
}  # fmt: skip
DAMAGED = "facts/"
"""Where the place in a damaged file stands before what is wrong with it."""
VOCABULARY = (
    "forward", "loss", "backward", "optimizer", "inference", "training", "simulated", "real",
    "{1} checkpointing", "warning", "notice", "{1} error", "{1} errors", "{1} warning",
    "{1} warnings", "{1} notice", "{1} notices", "{1} token", "{1} part", "{1} parts",
    "{1} operator", "{1} operators", "nothing", "outputs and gradients",
    "fragmentation", "CUDA context", "other programs", "compute", "memory", "GPU memory", "launch",
    "compute {1} %", "memory {1} %", "launch {1} %", "compute-bound", "memory-bound",
    "launch-bound",
    "forward and backward", "prefill", "decode", "{1} % in {2}", "activations: {1}",
    "parameters: {1}", "time: {1}", "MACs: {1}", "{1} % activations", "Activations", "fits !",
    "fits, fragmented !", "too close to call !", "does not fit !", "datacenter",
    "workstation", "consumer", "laptop", "edge", "other",
    "{1}, in forward", "{1}, in loss", "{1}, in backward", "{1}, in optimizer", "in {1}, {2}",
    "memory on {1}", "{1} ({2})", "{1} and as {2}", "a {1}", "an {1}", "bytes", "Failed at",
    "Fault:", "Step {1}:", "16 bits", "micro-batches", "fp32 cores",
    "fp32 cores and memory", "tensor cores and fp32 cores", "tensor cores and memory",
    "tensor cores, fp32 cores and memory", "{1} measured on it", "{1} measured on a sibling",
    "{1} by its datasheet alone", "{1} and {2} import it, and fail with it",
    "{1}. {2}", "ok", "over", "; grew most since the baseline:", "; largest at the peak:",
    "; heaviest layers:", "grew most since the baseline: {1}", "largest at the peak: {1}",
    "heaviest layers: {1}",
    "Samples/s", "changed", "added", "removed", "renamed", "{1} changed", "{1} added",
    "{1} removed", "{1} renamed", "{1}, new: {2}", "{1}, no longer: {2}", "context {1}",
    "{1} params", "{1} memory", "{1}iB tensors", "{1} % tensors", "{1} ms time",
    "{1} s time", "{1} µs time", "{1} % time", "{1} MACs", "{1} thread",
    "Accuracy", "Loss", "Mean squared error", "accuracy {1}", "accuracy {1} → {2}",
    "mean squared error {1}", "mean squared error {1} → {2}",
    "{1} threads", "cpu, {1} thread", "cpu, {1} threads", "watching {1} file; Ctrl-C ends it",
    "watching {1} files; Ctrl-C ends it", "failed", "guessed", "not counted", "inputs",
    "error: ", "note: ", "  try: ", ", ", "; ", ": ", ".",
    *_ROLES, *_ROLES.values(),
    *(f"{{1}} % {name}" for name in _ROLES.values()),
    *(f"{name} {{1}}" for name in _ROLES.values()),
    *(f"{{1}} {name} {{2}}" for name in _ROLES),
)  # fmt: skip
"""Words that are put together at run time: names of phases, of roles, of parts of memory."""

# ---------------------------------------------------------------------------- code

TOLD = ("on_progress", "progress", "tell", "say", "_say", "note")
"""Functions that tell a person what is done; their texts may be short."""
OF_NAMES = (
    "startswith", "endswith", "removeprefix", "partition", "rpartition", "strip", "lstrip",
    "rstrip", "get", "getattr", "hasattr", "setattr", "pop", "import_module",
    "encode", "decode", "open", "isinstance", "cast", "find", "index", "count", "which",
    "TypeVar", "NewType", "Data", "set_defaults",
)  # fmt: skip
"""Functions whose arguments are names."""
KEYWORDS_OF_NAMES = (
    "action", "commands", "default", "dest", "encoding", "errors", "instead_of", "kind", "metavar",
    "mode", "name", "nargs", "snippet", "source", "newline", "raw_name", "type", "usage",
    "alternative", "field",
)  # fmt: skip
NAMES_OF_CODE = (
    "__all__",
    "_IMPORT",
    "_SUFFIXES",
    "FORMATS",
    "_LAYOUT",
    "_TREE",
    "_OF_SAVED",
    "_TEXT_OPTIONS",
    "_BUSY",
    "_NOT_ALLOWED",
)


COMMAND = re.compile(
    r"(\s*torchgauge)?(\s+(summary|fit|measure|package|serve|devices|doctor))?"
    r"(\s+(--[\w-]+|file\.py:Name|3,224,224|http://:))*:?\s*"
)
NO_LABEL = re.compile(
    r"^<|^\n?:root|^\.\w+$| (class|title)=|\\|;$|</|=\"\w+\">"
    r"|^;?(font|margin|padding|white-space|text-align|width|height|background|border|display|overflow"
    r"|cursor|opacity|normal)[\w-]*[:;]|^rgba\(|^ *;( *;)*[a-z-]+:"
    r"|^(INSERT|SELECT|CREATE|UPDATE|DELETE) "
    r"|^from \w[\w.]* import|^model\.\s*=|^del |^Bearer |^ ?\.json$"
    r"|^git (fetch|submodule)|^connect-src|^[;: -]*font|^nowrap$|^ open$"
    r"|^([A-Z]+(_[A-Z]+)+|[a-z]+(_[a-z]+)+|[a-z_.:]+\.[A-Za-z_.:]+|--[a-z-]+|\w+/\w+)$"
)
"""HTML, styles, queries, patterns, names and options."""
NO_SENTENCE = re.compile(
    r"\w\|\w|\n +\S|\) -> [A-Z(]|pytorch/pytorch|\bPRs? \d|issues? \d|\.cpp\b"
    r"|\.so\.|read 2026|CUresult|_\w+ _\w+|\) -(?!>)|[a-z]\d?d? \w+\dd|_backward\b|\* |def __init__"
    r"|support matrix|et al\.|Guide|README|\w\[[A-Za-z]| \| [A-Za-z]|platform tag|Requires-Dist"
    r"|Toolkit: https|-m pip |-m venv"
    r"|^(docker|podman|apptainer|singularity|uv pip|sudo|pip cache|hf cache|export|resources:) "
    r"|^volumes: "
    r"|^(model|self)\.\{1\}[.\w]* = |^import \w+ as |^nn\.Sequential\(|^tp\.pruner\."
    r"|_submodule\(|[gs]etattr\(|^ *for [\w, ]+ in .*:$|^( *fuse|model) = |^if isinstance\("
    r"|^return self$|\.training else 0\.0$"
)
"""Patterns, lists of operators, commands, code to paste, and where a fact is from."""
