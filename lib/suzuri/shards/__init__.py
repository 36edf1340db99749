"""Shards: token ids on disk.

In: lines of text and a tokenizer folder. Out: .safetensors files of sequences, read back as memory maps,
and their text and figures.
"""
