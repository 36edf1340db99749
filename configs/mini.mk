# mini: a NomicBERT (a BERT with rotary positions) of 1.7M parameters, which two CPU cores make in 40 minutes from the
# first million sentences of each source, read as a stream that stops when it has them. Half of the sentences become
# pairs of their parts, from which even so small a model learns to compare sentences (tests/bench/recipes.md).
STREAM ?= 1
CC100_MAX_SENTENCE_NUM ?= 1000000
CC100_MAX_TRAIN_SENTENCE_NUM ?= 0
CC100_MAX_VALIDATION_SENTENCE_NUM ?= 10000
CC100_NUM_FILES ?= 4
JAWIKI_MAX_SENTENCE_NUM ?= 1000000
JAWIKI_MAX_TRAIN_SENTENCE_NUM ?= 0
JAWIKI_MAX_VALIDATION_SENTENCE_NUM ?= 5000
JAWIKI_NUM_FILES ?= 4
VOCAB_SIZE ?= 8192
MAX_SEQ_LENGTH ?= 128
CROP_PAIRS ?= 0.5
MODEL ?= nomic-bert-mini
MODEL_DISK ?= 500M
