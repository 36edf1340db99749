"""The log of a run: metrics.jsonl, a JSON object per line, and the same numbers for TensorBoard if it is there."""

import json
import os
import socket
import time
from typing import Any

from suzuri.errors import DataError
from suzuri.files import named, open_named
from suzuri.progress import note

FILE, EVENTS = "metrics.jsonl", "runs"
SNAPSHOTS = "snapshots"  # the model after so many tokens each, for curves over more than the loss


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
            self.board = EventFile(os.path.join(folder, EVENTS), step + 1)
        except ModuleNotFoundError:
            pass
        except Exception as e:
            self._without_board(e)

    def _without_board(self, error):
        """TensorBoard's events are a copy: a run goes on without them, whatever their fault is."""
        note(f"TensorBoard's events are no longer written ({type(error).__name__}: {error}); {FILE} still is")
        self.board = None

    def _append(self, line):
        json.dump(line, self.file)
        self.file.write("\n")
        self.file.flush()

    def write(self, line: dict[str, Any]) -> None:
        """`line`: {"step": …, name: number, …}."""
        self.lines.append(line)
        self._append(line)
        if self.board:
            try:
                self.board.write(line)
            except Exception as e:
                self._without_board(e)

    def has_evaluation(self, step: int) -> bool:
        return any(line["step"] == step and "eval_loss" in line for line in self.lines)

    def sync(self) -> None:
        with named(self.file.name):
            os.fsync(self.file.fileno())

    def close(self) -> None:
        self.sync()
        self.file.close()
        self.board = None


class EventFile:
    """TensorBoard's file, written at once: SummaryWriter's thread would end in a traceback when the disk is full."""

    def __init__(self, folder: str, first_step: int):
        """Events of an earlier run from `first_step` on are not shown any more. ModuleNotFoundError: no TensorBoard."""
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.Event, self.Summary = event_pb2.Event, summary_pb2.Summary
        os.makedirs(folder, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self.path = os.path.join(folder, name)
        self.records = RecordWriter(open(self.path, "ab", buffering=0))  # nothing is left to be written when it fails
        self._add(file_version="brain.Event:2")
        self._add(step=first_step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

    def _add(self, **event):
        self.records.write(self.Event(wall_time=time.time(), **event).SerializeToString())
        self.records.flush()

    def write(self, line: dict[str, Any]) -> None:
        """The numbers of a line of metrics.jsonl."""
        os.stat(self.path)  # an error if it has vanished
        numbers = {name: value for name, value in line.items() if name != "step" and value is not None}
        values = [self.Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._add(step=line["step"], summary=self.Summary(value=values))


def read(path: str) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, without those that are damaged, such as a last one that a kill has cut short."""
    lines = []
    if not os.path.exists(path):
        return lines
    if not os.path.isfile(path):
        raise DataError(path, "is not a file; remove it")
    with open(path, encoding="utf-8", errors="replace") as f:
        for text in f:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                lines.append(line)
    return lines
