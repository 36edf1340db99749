# mini: a BERT that two CPU cores train in half an hour (bf16), on the first million sentences of each source, read as
# a stream that stops when it has them. It shows that the whole chain works, make eval included; the model is too small
# to be useful.
STREAM ?= 1
CC100_MAX_SENTENCE_NUM ?= 1000000
CC100_MAX_TRAIN_SENTENCE_NUM ?= 0
CC100_MAX_VALIDATION_SENTENCE_NUM ?= 10000
CC100_NUM_FILES ?= 4
JAWIKI_MAX_SENTENCE_NUM ?= 1000000
JAWIKI_MAX_TRAIN_SENTENCE_NUM ?= 0
JAWIKI_MAX_VALIDATION_SENTENCE_NUM ?= 5000
JAWIKI_NUM_FILES ?= 4
VOCAB_SIZE ?= 16384
MAX_SEQ_LENGTH ?= 128
MODEL ?= bert-mini
MODEL_DISK ?= 500M
