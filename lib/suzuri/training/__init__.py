"""Training: what goes in are shards, the tokenizer's folder and a recipe (configs/train-*.json).

What comes out is models/NAME/, an ordinary Hugging Face model folder with metrics.jsonl, a card and a manifest.
"""
