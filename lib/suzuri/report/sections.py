"""The sections of the report: [(title, blocks), …], the overview first.

A block is (kind, content); both templates draw every kind:
  heading, text, missing   a str; missing says what is not made yet and which command makes it
  tiles                    [(value, name), …]: the most important figures
  table                    formats.table
  sentences                [(sentence, [(piece, figure), …]), …]
  pieces                   [(piece, figure), …]
  plots                    [plots.Plot, …]
  beside                   [blocks, …], side by side if there is room
  details                  (summary, blocks), folded in HTML
"""

from suzuri.errors import DataError
from suzuri.progress import note
from suzuri.report import data_reader
from suzuri.report.formats import percent
from suzuri.report.model_sections import evaluation_blocks, fill_mask_blocks, training_blocks
from suzuri.report.provenance_section import provenance_blocks
from suzuri.report.text_section import text_blocks
from suzuri.report.token_sections import sequence_blocks, tokenizer_blocks


def all_sections(data: str, seed: int, masked: list[str] = ()) -> list[tuple[str, list]]:
    """The report on DATA. `seed` draws the examples; `masked` are lines with [MASK] for the last model.

    If a file cannot be read, only its section is lost: the section and a line on stderr say so.
    """
    parts = {
        "suzuri report": lambda: overview(data),
        "Text": lambda: text_blocks(data, seed),
        "Token sequences": lambda: sequence_blocks(data),
        "Tokenizer": lambda: tokenizer_blocks(data, seed),
        "Training": lambda: training_blocks(data),
        "Fill-mask": lambda: fill_mask_blocks(data, masked),
        "Evaluation": lambda: evaluation_blocks(data),
        "Provenance": lambda: provenance_blocks(data),
    }
    found = []
    for title, blocks in parts.items():
        try:
            found.append((title, blocks()))
        except (DataError, OSError, ValueError, KeyError, TypeError, AttributeError) as e:  # files may hold anything
            why = str(e) if isinstance(e, DataError | OSError) else f"{type(e).__name__}: {e}"
            note(f"section {title}: {why}")
            found.append((title, [("missing", f"Could not be read: {why}")]))
    return found


def overview(data: str) -> list:
    """The names of datasets and models, and the most important figures."""
    names, models, tiles = data_reader.datasets(data), data_reader.models(data), []
    counted = [data_reader.counts(data, name).get("shuffle-split", {}) for name in names]
    if any(counted):
        tiles.append((sum(c.get("train", 0) for c in counted), "training sentences"))
    if made := [m for m in models if m.manifest]:
        last = made[-1]
        losses, accuracies = last.curve("eval_loss")[1], last.curve("eval_accuracy")[1]
        tiles.append((last.config.get("vocab_size"), "pieces in the vocabulary"))
        tiles.append((last.counts.get("parameters"), "parameters"))
        tiles.append((sum(m.counts.get("tokens seen", 0) for m in made), "tokens trained on"))
        tiles += [(f"{loss:.3f}", f"validation loss of {last.name}") for loss in losses[-1:]]
        tiles += [(percent(accuracy, 1), "of masked tokens predicted correctly") for accuracy in accuracies[-1:]]
    there = [", ".join(found) or "none yet" for found in (names, [m.name for m in models])]
    return [("text", "Datasets: {}. Models: {}.".format(*there)), ("tiles", tiles)]
