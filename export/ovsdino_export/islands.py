"""Which operators of an image graph stay in FP32, each with the reason."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from ovsdino_export.calibration import Record, by_node
from ovsdino_export.typed_graph import FP16_MAX, VIEWS, float_inputs, float_types, links
from ovsdino_runtime.errors import ExportError

RANGE_MARGIN = 4.0  # a tensor that may grow by less than this factor before it overflows stays in FP32
DISTURBANCE_LIMIT = 0.05  # a result that rounded inputs move by more than this share stays in FP32
WIDENINGS = (
    1 / 8,
    1 / 4,
    1 / 2,
)  # share of the computing nodes that stays in FP32, where the gates are missed
_EXPLAINED = 1.5  # a result that changes by less than so many times as much as its weights do changes by them
_AFFINE = frozenset({"Reshape", "ReduceSum", "Mul", "Add"})
_LAYER_NORM = "LayerNormalization sums squares"
_GROUP_NORM = "GroupNorm sums squares over a whole group"
_COSINE = "the final L2 norm sums squares, and cosines lie close together"


@dataclass(frozen=True, kw_only=True)
class Island:
    """A node that computes in FP32, and why."""

    node: str
    op: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        """Return the fields by name."""
        return asdict(self)


class Choice:
    """Islands of one graph, gathered; the first reason given for a node stays.

    Attributes:
        islands: node name to island, in the order in which they were found.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Look at a graph.

        Args:
            model: the FP32 graph, with plain weights.
        """
        self.types = float_types(model)
        self.nodes = {node.name: node for node in model.graph.node}
        self.weights = {item.name: item for item in model.graph.initializer}
        self.producer, self.users = links(model.graph)
        self.islands: dict[str, Island] = {}

    def add(self, node: onnx.NodeProto, reason: str) -> None:
        """Keep a node in FP32, if it has a float type at all."""
        if node.name not in self.islands and any(name in self.types for name in node.output):
            self.islands[node.name] = Island(node=node.name, op=node.op_type, reason=reason)

    def by_rule(self) -> None:
        """Add what sums squares: LayerNorm, GroupNorm with its affine, the L2 norm and all behind it."""
        for node in self.nodes.values():
            if node.op_type == "LayerNormalization":
                self.add(node, _LAYER_NORM)
            elif node.op_type == "InstanceNormalization":
                self._group_norm(node)
            elif node.op_type == "ReduceL2":
                self.add(node, _COSINE)
                for follower in self._behind(node):
                    self.add(follower, _COSINE)
            largest = self._largest_weight(node)
            if largest > FP16_MAX:
                self.add(node, f"a weight reaches {largest:.4g}, beyond FP16's {FP16_MAX:g}")

    def by_measurement(self, records: Sequence[Record]) -> None:
        """Add what calibration shows to come near FP16's range, or to suffer from its rounding."""
        for record in records:
            node = self.nodes[record.node]
            if not record.largest * RANGE_MARGIN <= FP16_MAX:  # so that NaN counts
                reason = (
                    f"{node.output[0]} reaches {record.largest:.4g}, within a factor of {RANGE_MARGIN:g} "
                    f"of FP16's {FP16_MAX:g}"
                )
                self.add(node, reason)
                for name in node.output:
                    for user in self.users.get(name, []):
                        self.add(user, reason)
            if not record.disturbance <= DISTURBANCE_LIMIT:  # as above
                by_weights = self._weight_error(node)
                if record.disturbance <= by_weights * _EXPLAINED:
                    # What makes its inputs is not to blame and may stay in FP16: fused attention, for one.
                    self.add(node, f"its weights are so small that FP16 changes them by {by_weights:.1%}")
                    continue
                self._precise(
                    node, f"inputs rounded to FP16 change {node.output[0]} by {record.disturbance:.1%}"
                )

    def asked(self, ops: Collection[str], nodes: Collection[str]) -> None:
        """Add operators and nodes that a person named.

        Raises:
            ExportError: the graph has none of that name.
        """
        for op in sorted(ops):
            found = [node for node in self.nodes.values() if node.op_type == op]
            if not found:
                known = ", ".join(sorted({node.op_type for node in self.nodes.values()}))
                raise ExportError(f"--fp32-op {op}: the graph has no such operator, only {known}")
            for node in found:
                self.add(node, "asked for by operator")
        for name in sorted(nodes):
            if name not in self.nodes:
                raise ExportError(
                    f"--fp32-node {name}: the graph has no node of that name; "
                    "`polygraphy inspect model image.onnx --show layers` lists them"
                )
            self.add(self.nodes[name], "asked for by name")

    def keep(self, islands: Iterable[Island]) -> None:
        """Add islands that were found before, with the reasons they had."""
        for island in islands:
            if island.node in self.nodes:
                self.add(self.nodes[island.node], island.reason)

    def widen(self, records: Sequence[Record], share: float) -> None:
        """Add the nodes that suffer most from rounding, as many as make a share of those that compute."""
        figures = by_node(records)
        computing = [
            node for name, node in self.nodes.items() if name in figures and node.op_type not in VIEWS
        ]
        order = sorted(computing, key=lambda node: -figures[node.name].disturbance)
        for node in order[: round(share * len(order))]:
            self._precise(
                node,
                f"widened to meet the gates: rounded inputs change {node.output[0]} by "
                f"{figures[node.name].disturbance:.2%}",
            )

    def _group_norm(self, node: onnx.NodeProto) -> None:
        while True:
            self.add(node, _GROUP_NORM)
            users = self.users.get(node.output[0], [])
            if len(users) != 1 or users[0].op_type not in _AFFINE:
                return
            others = [name for name in users[0].input if name != node.output[0]]
            if not all(name in self.weights for name in others):
                return
            node = users[0]

    def _behind(self, node: onnx.NodeProto) -> Iterable[onnx.NodeProto]:
        reached, waiting = {node.name}, [node]
        while waiting:
            for name in waiting.pop().output:
                for user in self.users.get(name, []):
                    if user.name not in reached:
                        reached.add(user.name)
                        waiting.append(user)
                        yield user

    def _precise(self, node: onnx.NodeProto, reason: str) -> None:
        """Keep a node in FP32, and what makes its inputs, so that these are not rounded either."""
        self.add(node, reason)
        waiting = [node]
        while waiting:
            for _, name in float_inputs(waiting.pop(), self.types):
                source = self.producer.get(name)
                if source is None:
                    continue
                self.add(source, reason)
                if source.op_type in VIEWS:
                    waiting.append(source)

    def _weight_error(self, node: onnx.NodeProto) -> float:
        """Return the relative change of a node's weights by FP16, as Frobenius norms; 0 without weights."""
        errors = [0.0]
        for _, name in float_inputs(node, self.types):
            if name in self.weights:
                wide = numpy_helper.to_array(self.weights[name]).astype(np.float32)
                with np.errstate(over="ignore"):
                    change = wide.astype(np.float16).astype(np.float32) - wide
                errors.append(float(np.linalg.norm(change) / max(float(np.linalg.norm(wide)), 1e-30)))
        return max(errors)

    def _largest_weight(self, node: onnx.NodeProto) -> float:
        sizes = [
            float(np.abs(numpy_helper.to_array(self.weights[name])).max(initial=0))
            for _, name in float_inputs(node, self.types)
            if name in self.weights
        ]
        return max(sizes, default=0.0)


def reasons(islands: Iterable[Island]) -> Mapping[str, int]:
    """Return how many islands have each reason, in the order in which they were found."""
    counted: dict[str, int] = {}
    for island in islands:
        counted[island.reason] = counted.get(island.reason, 0) + 1
    return counted
