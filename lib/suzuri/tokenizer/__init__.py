"""The tokenizer: learned from text, kept as a folder, applied to text.

In: lines of text. Out: a folder that `AutoTokenizer` loads, the words of a line, its token ids, and the
characters that each token came from.
"""
