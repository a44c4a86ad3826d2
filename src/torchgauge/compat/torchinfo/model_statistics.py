"""The result of ``summary()``: rows, totals, and the table as its text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from torchgauge.compat.torchinfo.enums import Units
from torchgauge.compat.torchinfo.formatting import CONVERSION_FACTORS, FormattingOptions
from torchgauge.compat.torchinfo.layer_info import LayerInfo
from torchgauge.facts.report import Report

_AUTO_UNITS = (Units.TERABYTES, Units.GIGABYTES)
"""Above millions, in which everything else is written, as in the released torchinfo."""


class ModelStatistics:
    """Totals over the rows, and ``report``, all that torchgauge knows of the run.

    ``total_input`` and ``total_param_bytes`` are bytes of the inputs and of the distinct
    parameters; ``total_output_bytes`` is what one forward and backward need besides them at their
    peak, so that the three sum to the peak of a training step without optimizer. The text is made
    anew each time, so settings of ``formatting`` may be changed.
    """

    def __init__(
        self,
        summary_list: list[LayerInfo],
        input_size: Any,
        total_input_size: int,
        formatting: FormattingOptions,
        *,
        total_output_bytes: int | None = None,
        of_report: Callable[[], Report | None] = lambda: None,
        notes: Sequence[str] = (),
    ) -> None:
        self.summary_list = summary_list
        self.input_size = input_size
        self.formatting = formatting
        self.total_input = total_input_size
        self.total_params = sum(row.own_params for row in summary_list)
        self.trainable_params = sum(row.own_trainable_params for row in summary_list)
        self.total_param_bytes = sum(row.own_param_bytes for row in summary_list)
        self.total_mult_adds = sum(row.own_macs for row in summary_list)
        self.total_output_bytes = total_output_bytes or 0
        self._of_report = of_report
        self.notes = tuple(notes)
        """What was done otherwise than asked for."""
        self._ran = total_output_bytes is not None
        self.formatting.set_layer_name_width(summary_list)

    @cached_property
    def report(self) -> Report | None:
        """Return the report, made when it is asked for."""
        return self._of_report()

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled and copied: the report, without the run it is made from."""
        return {**self.__dict__, "report": self.report, "_of_report": None}

    def __repr__(self) -> str:
        options = self.formatting
        options.set_layer_name_width(self.summary_list)
        divider = "=" * options.get_total_width()
        frozen = self.total_params - self.trainable_params
        lines = [
            divider,
            options.header_row().removesuffix("\n"),
            divider,
            *options.layers_to_str(self.summary_list, self.total_params).splitlines(),
            divider,
            *(
                f"{title}{self.format_output_num(count, options.params_count_units, False)}"
                for title, count in (
                    ("Total params", self.total_params),
                    ("Trainable params", self.trainable_params),
                    ("Non-trainable params", frozen),
                )
            ),
        ]
        if self._ran:
            lines += self._costs(divider)
        return "\n".join((*lines, divider))

    def _costs(self, divider: str) -> list[str]:
        macs = self.format_output_num(self.total_mult_adds, self.formatting.macs_units, False)
        sizes = (
            ("Input size", self.total_input),
            ("Forward/backward pass size", self.total_output_bytes),
            ("Params size", self.total_param_bytes),
            ("Estimated Total Size",
             self.total_input + self.total_output_bytes + self.total_param_bytes),
        )  # fmt: skip
        units = self.formatting.params_size_units
        return [
            f"Total mult-adds{macs}",
            divider,
            *(f"{title}{self.format_output_num(size, units, True)}" for title, size in sizes),
        ]

    @staticmethod
    def float_to_megabytes(num: int) -> float:
        """Return the megabytes (1e6) of ``num`` values of 4 bytes."""
        return num * 4 / 1e6

    @staticmethod
    def to_megabytes(num: int) -> float:
        """Return bytes in megabytes (1e6)."""
        return num / 1e6

    @staticmethod
    def to_readable(num: int, units: Units | str = Units.AUTO) -> tuple[Units, float]:
        """Return the unit and the number in it; ``AUTO`` takes the largest that fits, or M."""
        chosen = Units(units)
        if chosen is Units.AUTO:
            fitting = (unit for unit in _AUTO_UNITS if num >= CONVERSION_FACTORS[unit])
            chosen = next(fitting, Units.MEGABYTES)
        return chosen, num / CONVERSION_FACTORS[chosen]

    @staticmethod
    def format_output_num(num: int, units: Units | str, is_bytes: bool = False) -> str:
        """Return what stands behind a title: `` (MB): 1.00``, `` (M): 1``, ``: 12``."""
        chosen, value = ModelStatistics.to_readable(num, units)
        unit = f" ({chosen.value}{'B' if is_bytes else ''})" if chosen is not Units.NONE else ""
        if is_bytes and unit:
            return f"{unit}: {value:.2f}"
        text = f"{int(value):,d}" if float(value).is_integer() else f"{value:,.2f}"
        return f"{unit}: {text}"
