"""Emulators as programs that run without this library: for PyTorch, and as graphs of ONNX."""

from __future__ import annotations

import io
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from locum.core.errors import InvalidData, need
from locum.core.export import write_atomically

__all__ = ["Exports"]

_OPSET = 18


class Exports(ABC):
    """A network that can be written, together with the units of its data, as a program that runs without Locum."""

    @abstractmethod
    def to_module(self) -> tuple[Any, dict[str, Any]]:
        """The network as it would be exported.

        Returns
        -------
        module : torch.nn.Module
            In the units of the data, on the CPU; it shares no weights with this emulator.
        inputs : dict of str to torch.Tensor
            Two rows of each of its inputs, by name, in their order.
        """

    def export(self, path: Any) -> None:
        """Write the network as a program for any number of rows at once; it knows no region and gives no warnings.

        Parameters
        ----------
        path : path
            What it ends with decides. ".pt2": for PyTorch, ``torch.export.load(path).module()`` takes the inputs in their
            order. ".onnx": for any runtime of ONNX, with inputs by the names that `to_module` gives, and the output "said".

        Raises
        ------
        InvalidData
            Another ending.
        MissingExtra
            What writes ONNX is not installed.
        """
        kind = Path(path).suffix
        if kind not in (".pt2", ".onnx"):
            raise InvalidData(f"expected a file that ends with .pt2 (PyTorch) or .onnx, got {Path(path).name}")
        torch = need("torch", "a network that is exported", "nets")
        module, inputs = self.to_module()
        rows = torch.export.Dim("rows")
        settings: dict[str, Any] = {"dynamic_shapes": tuple({0: rows} for _ in inputs)}
        packed = io.BytesIO()
        with warnings.catch_warnings():
            for noise in (FutureWarning, UserWarning):  # of PyTorch's own parts, about one another and how weights are kept
                warnings.simplefilter("ignore", noise)
            if kind == ".pt2":
                torch.export.save(torch.export.export(module, tuple(inputs.values()), **settings), packed)
            else:
                need("onnxscript", "an ONNX file of a network", "onnx")
                program = torch.onnx.export(
                    module, tuple(inputs.values()), dynamo=True, verbose=False, opset_version=_OPSET,
                    input_names=list(inputs), output_names=["said"], **settings,
                )  # fmt: skip
                packed.write(program.model_proto.SerializeToString())
        write_atomically(path, packed.getvalue())
