"""A tokenizer's folder: what is in it, read without transformers, MeCab or sentencepiece.

Three types, each a folder that `AutoTokenizer.from_pretrained` loads:

    wordpiece  vocab.txt       BertJapaneseTokenizer: MeCab words (unidic-lite), cut into WordPieces
    char       vocab.txt       BertJapaneseTokenizer: MeCab words, cut into characters
    unigram    tokenizer.json  PreTrainedTokenizerFast: sentencepiece's unigram model, no MeCab

and beside it a tokenizer_config.json. A piece's id is its place in the vocabulary.
"""

import json
import os

from suzuri.errors import DataError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0..4
UNIT = {"wordpiece": "words", "char": "characters", "unigram": "runs of a script"}
UNUSED = tuple(f"<unused{i}>" for i in range(10))  # 5..14, free for whoever fine-tunes
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")


def read_config(folder):
    """tokenizer_config.json as a dict."""
    return _read_json(os.path.join(folder, "tokenizer_config.json"))


def read_vocabulary(folder):
    """The pieces of a tokenizer folder, in the order of their ids: list of str, index = id."""
    if os.path.exists(os.path.join(folder, "vocab.txt")):
        # The same reading as BertJapaneseTokenizer's: universal newlines, only the line end taken off.
        with open(os.path.join(folder, "vocab.txt"), encoding="utf-8") as f:
            return [line.rstrip("\n") for line in f]
    path = os.path.join(folder, "tokenizer.json")
    if not os.path.exists(path):
        raise DataError(folder, "no tokenizer: neither vocab.txt nor tokenizer.json in it")
    data = _read_json(path)
    try:
        vocab = data["model"]["vocab"]  # Unigram: [[piece, score], …]; WordPiece and BPE: {piece: id}
        pieces = dict(vocab) if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}
        pieces.update((token["content"], token["id"]) for token in data.get("added_tokens", ()))
        by_id = {i: piece for piece, i in pieces.items()}
        return [by_id[i] for i in range(len(by_id))]
    except (KeyError, TypeError, ValueError) as e:
        raise DataError(path, f"not a tokenizer.json with ids from 0 on ({type(e).__name__}: {e})") from None


def special_ids(folder):
    """{'pad_token': 0, 'unk_token': 1, 'cls_token': 2, 'sep_token': 3, 'mask_token': 4} of a folder.

    The tokens are those that tokenizer_config.json names; one that is not in the vocabulary is an error.
    """
    config, ids = read_config(folder), {piece: i for i, piece in enumerate(read_vocabulary(folder))}
    found = {}
    for role, default in zip(ROLES, SPECIAL, strict=True):
        token = config.get(role) or default
        token = token["content"] if isinstance(token, dict) else token
        if token not in ids:
            raise DataError(folder, f"its {role} {token!r} is not in its vocabulary")
        found[role] = ids[token]
    return found


def learn(kind, units, alphabet, size, folder):
    """(pieces, number of characters among them), learned from the counts that vocabulary.UNITS[kind] gives.

    Characters leave room for pieces: with their ## forms they take two thirds of a small vocabulary at
    most, a half for unigram. `folder` is for a scratch file.
    """
    from suzuri.tokenizer import counting, unigram_training, wordpiece_training

    reserved = SPECIAL + UNUSED
    room = (size - len(reserved)) // {"wordpiece": 3, "char": 1, "unigram": 2}[kind]
    letters = counting.choose_alphabet(counting.sum_characters(units), min(alphabet, room))
    if kind == "unigram":
        return unigram_training.learn(units, letters, reserved, size, folder), len(letters)
    if kind == "char":
        return [*reserved, *sorted(letters)], len(letters)
    return wordpiece_training.learn(units, letters, reserved, size), len(letters)


def made_with(kind):
    """The version of what the pieces depend on, for the manifest: {"unidic-lite": "1.0.8"}."""
    from importlib.metadata import version

    package = "sentencepiece" if kind == "unigram" else "unidic-lite"
    return {package: version(package)}


def write_folder(folder, kind, pieces, max_seq_length):
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
            # Pre-training knows one kind of segment; and RoBERTa and ModernBERT take no token_type_ids.
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


def kind(folder):
    """wordpiece, char or unigram; "other" for what is none of ours (loads with `load`, cannot be packed)."""
    config = read_config(folder)
    if config.get("tokenizer_class") == "BertJapaneseTokenizer":
        mecab = config.get("mecab_kwargs") or {}
        ours = (
            config.get("word_tokenizer_type") == "mecab"
            and config.get("do_word_tokenize", True)
            and config.get("do_subword_tokenize", True)
            and not config.get("do_lower_case")
            and mecab.get("mecab_dic", "unidic_lite") == "unidic_lite"
            and not mecab.get("mecab_option")
            and mecab.get("normalize_text", True)
        )
        kinds = {"wordpiece": "wordpiece", "character": "char"}
        return kinds.get(config.get("subword_tokenizer_type", "wordpiece"), "other") if ours else "other"
    return "unigram" if os.path.exists(os.path.join(folder, "tokenizer.json")) else "other"


def max_seq_length(folder):
    """The model_max_length of tokenizer_config.json, or 512 where it says none (transformers writes 1e30)."""
    n = read_config(folder).get("model_max_length", 512)
    return int(n) if n <= 1 << 20 else 512


def load(folder):
    """The transformers tokenizer of a folder, of the class that its tokenizer_config.json names.

    AutoTokenizer prefers the class that fits config.json: a ModernBERT folder with a MeCab tokenizer is
    refused there in transformers 5.
    """
    import transformers

    name = read_config(folder).get("tokenizer_class") or "AutoTokenizer"
    try:
        return getattr(transformers, name).from_pretrained(folder, local_files_only=True)
    except AttributeError:
        raise DataError(folder, f"transformers {transformers.__version__} has no tokenizer class {name}") from None


def _read_json(path):
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except FileNotFoundError:
        raise DataError(path, "not there; a tokenizer folder holds one (make one with train-tokenizer)") from None
    except ValueError as e:
        raise DataError(path, f"not JSON ({e})") from None
