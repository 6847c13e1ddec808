"""A model's step as a CUDA graph: its hundreds of operations are begun by one call and not from Python.

What is captured must be the same operations on the same tensors at every step, with nothing read back from
the device, as ForkedCache has it. Source: the documentation of torch.cuda.graphs, "CUDA Graphs".
"""

from collections.abc import Callable
from typing import Final

import torch

Tensor = torch.Tensor
WARM_UPS: Final = 3  # in which libraries choose their algorithms; each writes the same slot anew


class CapturedStep:
    """`forward` of tokens [R, 1] and positions [R, 1], captured anew where a shape changes."""

    def __init__(self, forward: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.forward = forward
        self.shapes: tuple[torch.Size, ...] = ()

    def __call__(self, tokens: Tensor, positions: Tensor, cache: torch.Size) -> Tensor:
        """Logits [R, 1, V], to be read before the next call; `cache` is the shape of what is attended to."""
        if self.shapes != (tokens.shape, cache):
            self._capture(tokens, positions)
            self.shapes = (tokens.shape, cache)
        self.tokens.copy_(tokens)
        self.positions.copy_(positions)
        self.graph.replay()
        return self.logits

    def _capture(self, tokens: Tensor, positions: Tensor) -> None:
        self.tokens, self.positions = tokens.clone(), positions.clone()
        aside = torch.cuda.Stream(tokens.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(tokens.device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self.forward(self.tokens, self.positions)
        torch.cuda.current_stream(tokens.device).wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.logits = self.forward(self.tokens, self.positions)
        except RuntimeError as error:
            if isinstance(error.__context__, torch.OutOfMemoryError):  # the end of the capture failed, too
                raise error.__context__ from None
            raise
