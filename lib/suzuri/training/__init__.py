"""Training of a masked language model. In: shards, the tokenizer's folder and a recipe (configs/train-*.json).

Out: models/NAME/, an ordinary Hugging Face model folder with metrics.jsonl, a card and a manifest.
"""
