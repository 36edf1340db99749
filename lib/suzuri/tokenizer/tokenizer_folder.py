"""Tokenizer folders: what is in one, read without transformers, MeCab or sentencepiece; and how one is made.

Three types, each a folder that `AutoTokenizer.from_pretrained` loads:

    wordpiece  vocab.txt       BertJapaneseTokenizer: MeCab words (unidic-lite), cut into WordPieces
    char       vocab.txt       BertJapaneseTokenizer: MeCab words, cut into characters
    unigram    tokenizer.json  PreTrainedTokenizerFast: sentencepiece's unigram model, no MeCab

and beside it a tokenizer_config.json. A piece's id is its place in the vocabulary.
"""

import hashlib
import json
import os
import unicodedata
from functools import cached_property

from suzuri.errors import DataError
from suzuri.files import read_json, sha256
from suzuri.manifest import MANIFEST, read_manifest
from suzuri.tokenizer.untrusted import PICKLED, SAFE, refuse_unsafe

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0..4
UNUSED = tuple(f"<unused{i}>" for i in range(10))  # 5..14, free for fine-tuning
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")


# Files of a model, which is often in the same folder as its tokenizer.
OF_A_MODEL = ("config.json", "generation_config.json", "README.md", "metrics.jsonl", "model.safetensors.index.json")


class TokenizerFolder:
    """A tokenizer's folder, of which each part is read once, when it is first needed. Raises DataError."""

    def __init__(self, path: str):
        self.path = path

    def refuse_damaged(self) -> None:
        """Raise DataError if a file of the tokenizer is not as the folder's manifest says, where there is one.

        In a model's folder the card is its owner's to change, and the weights are checked when they are loaded.
        """
        if os.path.exists(os.path.join(self.path, MANIFEST)):
            for name, recorded in read_manifest(self.path)["outputs"].items():
                path = os.path.join(self.path, name)
                if name in OF_A_MODEL or name.endswith(".safetensors"):
                    continue
                if not os.path.exists(path) or sha256(path) != recorded["sha256"]:
                    raise DataError(
                        path, f"damaged: its sha256 is not the one in {MANIFEST}; remove the folder and make it again"
                    )

    @cached_property
    def config(self) -> dict:
        """tokenizer_config.json."""
        return _read_json(os.path.join(self.path, "tokenizer_config.json"))

    @cached_property
    def pieces(self) -> list[str]:
        """The vocabulary in the order of the ids: index = id."""
        path = os.path.join(self.path, "vocab.txt")
        if os.path.exists(path) and self.kind != "unigram":
            # Read as BertJapaneseTokenizer reads it: universal newlines, only the line end removed.
            with open(path, encoding="utf-8") as f:
                return [line.rstrip("\n") for line in f]
        path = os.path.join(self.path, "tokenizer.json")
        if not os.path.exists(path):
            raise DataError(self.path, "not a tokenizer: neither vocab.txt nor tokenizer.json in it")
        data = _read_json(path)
        try:
            vocab = data["model"]["vocab"]  # Unigram: [[piece, score], …]; WordPiece and BPE: {piece: id}
            ids = dict(vocab) if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}
            ids.update((token["content"], token["id"]) for token in data.get("added_tokens", ()))
            by_id = {i: piece for piece, i in ids.items()}
            return [by_id[i] for i in range(len(by_id))]
        except (KeyError, TypeError, ValueError) as e:
            raise DataError(path, f"not a tokenizer.json with ids from 0 on ({type(e).__name__}: {e})") from None

    @cached_property
    def ids(self) -> dict[str, int]:
        """{piece: id}"""
        return {piece: i for i, piece in enumerate(self.pieces)}

    @cached_property
    def special_ids(self) -> dict[str, int]:
        """{'pad_token': 0, 'unk_token': 1, 'cls_token': 2, 'sep_token': 3, 'mask_token': 4}

        The tokens are those that tokenizer_config.json names; one that is not in the vocabulary is an error.
        """
        found = {}
        for role, default in zip(ROLES, SPECIAL, strict=True):
            token = self.config.get(role) or default
            token = token["content"] if isinstance(token, dict) else token
            if token not in self.ids:
                raise DataError(self.path, f"its {role} {token!r} is not in its vocabulary")
            found[role] = self.ids[token]
        return found

    @cached_property
    def model_config(self) -> dict[str, int]:
        """The keys of a transformers model configuration that follow from the tokenizer."""
        ids = {role.replace("token", "token_id"): i for role, i in self.special_ids.items() if role != "unk_token"}
        return {
            "vocab_size": len(self.pieces),
            **ids,
            "bos_token_id": ids["cls_token_id"],
            "eos_token_id": ids["sep_token_id"],
        }

    @cached_property
    def kind(self) -> str:
        """wordpiece, char or unigram (any with a tokenizer.json); "other": `load` loads it; it cannot pack text."""
        if self.config.get("tokenizer_class") != "BertJapaneseTokenizer":
            return "unigram" if os.path.exists(os.path.join(self.path, "tokenizer.json")) else "other"
        mecab = self.config.get("mecab_kwargs") or {}
        ours = (
            self.config.get("word_tokenizer_type") == "mecab"
            and self.config.get("do_word_tokenize", True)
            and self.config.get("do_subword_tokenize", True)
            and not self.config.get("do_lower_case")
            and mecab.get("mecab_dic", "unidic_lite") == "unidic_lite"
            and not mecab.get("mecab_option")
            and mecab.get("normalize_text", True)
            and not self._has_added_pieces()
        )
        kinds = {"wordpiece": "wordpiece", "character": "char"}
        return kinds.get(self.config.get("subword_tokenizer_type", "wordpiece"), "other") if ours else "other"

    def _has_added_pieces(self):
        """Whether there are pieces beyond those of vocab.txt, as add_tokens() of transformers makes them."""
        added, vocab = (os.path.join(self.path, name) for name in ("added_tokens.json", "vocab.txt"))
        ids = [*map(int, self.config.get("added_tokens_decoder") or ())]
        ids += _read_json(added).values() if os.path.exists(added) else ()
        if not ids or not os.path.exists(vocab):
            return False
        with open(vocab, "rb") as f:
            return max(ids) >= sum(1 for _ in f)

    @cached_property
    def max_seq_length(self) -> int:
        """The model_max_length of tokenizer_config.json, or 512 if it names none (transformers writes 1e30)."""
        n = self.config.get("model_max_length", 512)
        return int(n) if n <= 1 << 20 else 512

    def files(self) -> list[str]:
        """The names of the tokenizer's own files, without those of a model in the same folder."""
        return [
            name
            for name in sorted(os.listdir(self.path))
            if os.path.isfile(os.path.join(self.path, name))
            and name not in (MANIFEST, *OF_A_MODEL)
            and not name.endswith((".safetensors", *PICKLED))
            and not name.startswith(".")
        ]

    @cached_property
    def sha256(self) -> str:
        """sha256 of the sorted `sha256sum` lines of the folder's files, without its manifest.

        Shell: `cd FOLDER && ls -I manifest.json | xargs sha256sum | sort | sha256sum`
        """
        names = [n for n in os.listdir(self.path) if n != MANIFEST and os.path.isfile(os.path.join(self.path, n))]
        lines = sorted(f"{sha256(os.path.join(self.path, n))}  {n}\n" for n in names)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def planned_tokenizer(kind: str, size: int) -> TokenizerFolder:
    """A tokenizer of at most `size` pieces that is not trained yet: which ones, and how many, is not known."""
    tokenizer = TokenizerFolder("tokenizer")
    mark = "##" if kind == "wordpiece" else ""
    tokenizer.config, tokenizer.pieces = {}, [*SPECIAL, *UNUSED, *(f"{mark}{i}" for i in range(size - 15))]
    tokenizer.model_config = {key: n for key, n in tokenizer.model_config.items() if key != "vocab_size"}
    return tokenizer


def learn(kind: str, counts: dict[str, int], alphabet: int, size: int, folder: str) -> tuple[list, int]:
    """(pieces, number of characters among them), learned from the counts that counting.count_blocks gives.

    Characters leave room for pieces: with their ## forms they take at most two thirds of a small vocabulary,
    a half for unigram. `folder` is for a scratch file. Raises DataError if there is nothing visible in the text.
    """
    from suzuri.tokenizer import counting, unigram_training, wordpiece_training

    reserved = SPECIAL + UNUSED
    room = (size - len(reserved)) // {"wordpiece": 3, "char": 1, "unigram": 2}[kind]
    characters = counting.choose_alphabet(counting.sum_characters(counts), min(alphabet, room))
    if all(unicodedata.category(c)[0] in "CZ" for c in characters):  # controls, private use, white space …
        raise DataError("standard input", "no text to learn from: white space, controls and invalid bytes only")
    if kind == "unigram":
        return unigram_training.learn(counts, characters, reserved, size, folder), len(characters)
    if kind == "char":
        return [*reserved, *sorted(characters)], len(characters)
    return wordpiece_training.learn(counts, characters, reserved, size), len(characters)


def made_with(kind: str) -> dict[str, str]:
    """The version of what the pieces depend on, for the manifest: {"unidic-lite": "1.0.8"}."""
    from importlib.metadata import version

    package = "sentencepiece" if kind == "unigram" else "unidic-lite"
    return {package: version(package)}


def write_folder(folder: str, kind: str, pieces: list, max_seq_length: int) -> None:
    """Write a tokenizer's files: vocab.txt or tokenizer.json, and tokenizer_config.json.

    pieces: for `unigram` [(piece, score), …], else [piece, …]; SPECIAL + UNUSED come first.
    """
    config = {"model_max_length": max_seq_length, **dict(zip(ROLES, SPECIAL, strict=True))}
    if kind == "unigram":
        from suzuri.tokenizer import unigram_training

        unigram_training.write_json(os.path.join(folder, "tokenizer.json"), pieces, SPECIAL)
        config |= {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            # Pre-training has one kind of segment, and RoBERTa and ModernBERT take no token_type_ids.
            "model_input_names": ["input_ids", "attention_mask"],
        }
    else:
        with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8", newline="\n") as f:
            f.writelines(f"{piece}\n" for piece in pieces)
        config |= {
            "tokenizer_class": "BertJapaneseTokenizer",
            "do_lower_case": False,
            "do_word_tokenize": True,
            "word_tokenizer_type": "mecab",
            "mecab_kwargs": {"mecab_dic": "unidic_lite"},
            "do_subword_tokenize": True,
            "subword_tokenizer_type": {"wordpiece": "wordpiece", "char": "character"}[kind],
        }
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as f:
        json.dump(dict(sorted(config.items())), f, ensure_ascii=False, indent=2)
        f.write("\n")


def load(folder: str):
    """The transformers tokenizer of a folder, of the class that its tokenizer_config.json names.

    AutoTokenizer prefers the class that fits config.json: a ModernBERT folder with a MeCab tokenizer is
    refused there in transformers 5.
    """
    import transformers

    refuse_unsafe(folder)
    TokenizerFolder(folder).refuse_damaged()
    name = TokenizerFolder(folder).config.get("tokenizer_class") or "AutoTokenizer"
    kind = getattr(transformers, str(name), None)
    if not hasattr(kind, "from_pretrained"):
        raise DataError(folder, f"transformers {transformers.__version__} has no tokenizer class {name}")
    try:
        return kind.from_pretrained(folder, local_files_only=True, **SAFE)
    except ImportError:
        raise
    except Exception as e:  # of any kind: the folder may hold anything
        why = " ".join(str(e).split())[:200]
        raise DataError(folder, f"its tokenizer does not load ({type(e).__name__}: {why})") from None


def _read_json(path):
    try:
        found = read_json(path)
    except FileNotFoundError:
        raise DataError(path, "not found; every tokenizer folder has one (train-tokenizer writes it)") from None
    if not isinstance(found, dict):
        raise DataError(path, "not a JSON object; make the tokenizer again (make tokenizer)")
    return found
