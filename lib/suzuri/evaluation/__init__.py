"""Evaluation of models. In: a model folder, and a text, masked sentences, minimal pairs or a task's examples.

Out: loss and perplexity, ranks of the right words, accuracy on pairs, scores after fine-tuning, and tables of these.
"""
