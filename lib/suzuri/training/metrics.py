"""metrics.jsonl, one JSON object a line, and the same numbers for TensorBoard where it is installed."""

import json
import os

FILE, EVENTS = "metrics.jsonl", "runs"


class Metrics:
    """Appends to FOLDER/metrics.jsonl after dropping what lies beyond `step`: a killed run's unsaved steps."""

    def __init__(self, folder, step):
        path = os.path.join(folder, FILE)
        self.lines = [line for line in read(path) if line["step"] <= step]
        self.file = open(f"{path}.part", "w", encoding="utf-8")
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

    def write(self, line):
        """`line`: {"step": …, name: number, …}."""
        self.lines.append(line)
        self._append(line)
        if self.board:
            for name, value in line.items():
                if name != "step" and value is not None:
                    self.board.add_scalar(name, value, line["step"])

    def has_evaluation(self, step):
        return any(line["step"] == step and "eval_loss" in line for line in self.lines)

    def sync(self):
        os.fsync(self.file.fileno())

    def close(self):
        self.sync()
        self.file.close()
        if self.board:
            self.board.close()


def read(path):
    """The lines of a metrics.jsonl; a last line cut short by a kill is left out."""
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
