"""The log of a run: metrics.jsonl, a JSON object per line, and the same numbers for TensorBoard if it is there."""

import json
import os
from typing import Any

from suzuri.files import named, open_named

FILE, EVENTS = "metrics.jsonl", "runs"


class Metrics:
    """Appends to FOLDER/metrics.jsonl. Lines after `step`, from unsaved steps of a killed run, are removed first."""

    def __init__(self, folder: str, step: int):
        path = os.path.join(folder, FILE)
        self.lines = [line for line in read(path) if line["step"] <= step]
        self.file = open_named(f"{path}.part", path, "w", encoding="utf-8")
        for line in self.lines:
            self._append(line)
        os.replace(f"{path}.part", path)
        self.board = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.board = SummaryWriter(os.path.join(folder, EVENTS), purge_step=step + 1)

    def _append(self, line):
        json.dump(line, self.file)
        self.file.write("\n")
        self.file.flush()

    def write(self, line: dict[str, Any]) -> None:
        """`line`: {"step": …, name: number, …}."""
        self.lines.append(line)
        self._append(line)
        if self.board:
            for name, value in line.items():
                if name != "step" and value is not None:
                    self.board.add_scalar(name, value, line["step"])

    def has_evaluation(self, step: int) -> bool:
        return any(line["step"] == step and "eval_loss" in line for line in self.lines)

    def sync(self) -> None:
        with named(self.file.name):
            os.fsync(self.file.fileno())

    def close(self) -> None:
        self.sync()
        self.file.close()
        if self.board:
            self.board.close()


def read(path: str) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, without a last line that a kill has cut short."""
    lines = []
    try:
        with open(path, encoding="utf-8") as f:
            for text in f:
                try:
                    lines.append(json.loads(text))
                except ValueError:
                    break
    except FileNotFoundError:
        pass
    return lines
