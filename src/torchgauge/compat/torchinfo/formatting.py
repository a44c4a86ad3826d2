"""How the table looks: columns, widths, branches, units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torchgauge.compat.torchinfo.enums import ColumnSettings, RowSettings, Units, Verbosity
from torchgauge.compat.torchinfo.layer_info import LayerInfo

HEADER_TITLES = {
    ColumnSettings.KERNEL_SIZE: "Kernel Shape",
    ColumnSettings.GROUPS: "Groups",
    ColumnSettings.INPUT_SIZE: "Input Shape",
    ColumnSettings.OUTPUT_SIZE: "Output Shape",
    ColumnSettings.NUM_PARAMS: "Param #",
    ColumnSettings.PARAMS_PERCENT: "Param %",
    ColumnSettings.MULT_ADDS: "Mult-Adds",
    ColumnSettings.TRAINABLE: "Trainable",
}
CONVERSION_FACTORS = {
    Units.TERABYTES: 1e12,
    Units.GIGABYTES: 1e9,
    Units.MEGABYTES: 1e6,
    Units.KILOBYTES: 1e3,
    Units.NONE: 1,
}
_NAME_WIDTH = 40
_INDENT = 5
"""Characters per level of depth, and the step in which the first column grows."""
_UNICODE = ("├─", "└─", "│    ")
_ASCII = ("+ ", "+ ", "|    ")


class FormattingOptions:
    """Settings of one table. They may be changed: each ``str()`` of the result reads them anew."""

    def __init__(
        self,
        max_depth: int,
        verbose: int,
        col_names: Iterable[str],
        col_width: int,
        row_settings: Iterable[str],
    ) -> None:
        self.max_depth = max_depth
        self.verbose = verbose
        self.col_names: Sequence[str] = tuple(ColumnSettings(name) for name in col_names)
        self.col_width = col_width
        self.row_settings = {RowSettings(name) for name in row_settings}
        self.params_count_units: Units | str = Units.NONE
        self.params_size_units: Units | str = Units.MEGABYTES
        self.macs_units: Units | str = Units.AUTO
        self.layer_name_width = _NAME_WIDTH
        self.ascii_only = RowSettings.ASCII_ONLY in self.row_settings
        self.show_var_name = RowSettings.VAR_NAMES in self.row_settings
        self.show_depth = RowSettings.DEPTH in self.row_settings
        self.hide_recursive_layers = RowSettings.HIDE_RECURSIVE_LAYERS in self.row_settings

    @property
    def params_units(self) -> Units | str:
        """Return ``params_count_units`` by its name in torchinfo 1.8.0."""
        return self.params_count_units

    @params_units.setter
    def params_units(self, units: Units | str) -> None:
        self.params_count_units = units

    @staticmethod
    def str_(val: Any) -> str:
        """Return the text of a cell; what is empty is ``--``."""
        return str(val) if val else "--"

    def get_start_str(self, depth: int) -> str:
        """Return the branch in front of a layer's name."""
        first, deeper, line = _ASCII if self.ascii_only else _UNICODE
        if depth == 0:
            return ""
        return first if depth == 1 else line * (depth - 1) + deeper

    def set_layer_name_width(
        self, summary_list: Sequence[LayerInfo], align_val: int = _INDENT
    ) -> None:
        """Widen the first column to its longest name, in steps of ``align_val``."""
        longest = max(
            (
                len(info.get_layer_name(self.show_var_name, self.show_depth))
                + info.depth * align_val
                + 1
                for info in summary_list
            ),
            default=0,
        )
        if longest >= self.layer_name_width:
            self.layer_name_width = math.ceil(longest / align_val) * align_val

    def get_total_width(self) -> int:
        """Return the length of the rules."""
        return len(tuple(self.col_names)) * self.col_width + self.layer_name_width

    def format_row(self, layer_name: str, row_values: Mapping[Any, str]) -> str:
        """Return one line, with its line break."""
        cells = [f"{layer_name:<{self.layer_name_width}}"]
        for name in self.col_names:
            value = row_values.get(name, "")  # a member is its string
            cells.append(f"{value:<{self.col_width}}")
        return " ".join(cells).rstrip() + "\n"

    def header_row(self) -> str:
        """Return the line of column titles."""
        title = "Layer (type"
        title += " (var_name)" if self.show_var_name else ""
        title += ":depth-idx" if self.show_depth else ""
        return self.format_row(f"{title})", HEADER_TITLES)

    def layer_info_to_row(
        self, layer_info: LayerInfo, reached_max_depth: bool, total_params: int
    ) -> str:
        """Return a layer's line, with ``verbose=2`` those of its weights too."""
        macs = layer_info.shown_macs(reached_max_depth)
        if self.hide_recursive_layers:  # the row stands for the later ones, which are not shown
            macs += sum(row.shown_macs(reached_max_depth) for row in layer_info.repeats)
        values: dict[str, str] = {}
        for name in self.col_names:
            if name == ColumnSettings.NUM_PARAMS:
                values[name] = layer_info.num_params_to_str(reached_max_depth)
            elif name == ColumnSettings.PARAMS_PERCENT:
                values[name] = layer_info.params_percent(total_params, reached_max_depth)
            elif name == ColumnSettings.MULT_ADDS:
                values[name] = f"{macs:,}" if macs > 0 else "--"
            else:  # the attribute of that name
                values[name] = self.str_(getattr(layer_info, ColumnSettings(name)))
        name = layer_info.get_layer_name(self.show_var_name, self.show_depth)
        text = self.format_row(f"{self.get_start_str(layer_info.depth)}{name}", values)
        if self.verbose == Verbosity.VERBOSE:
            start = self.get_start_str(layer_info.depth + 1)
            for inner_name, inner in layer_info.inner_layers.items():
                text += self.format_row(f"{start}{inner_name}", inner)
        return text

    def layers_to_str(self, summary_list: Sequence[LayerInfo], total_params: int) -> str:
        """Return the lines of all layers that the settings show."""
        return "".join(
            self.layer_info_to_row(info, info.depth == self.max_depth, total_params)
            for info in summary_list
            if info.depth <= self.max_depth
            and not (self.hide_recursive_layers and info.is_recursive)
        )
