# small: the first million sentences of each source, read as a stream that stops when it has them, so that the 15 GB
# file is neither stored nor downloaded completely. Minutes of text work, hours of training on a CPU.
STREAM ?= 1
CC100_MAX_SENTENCE_NUM ?= 1000000
CC100_MAX_TRAIN_SENTENCE_NUM ?= 980000
CC100_MAX_VALIDATION_SENTENCE_NUM ?= 10000
CC100_NUM_FILES ?= 4
JAWIKI_MAX_SENTENCE_NUM ?= 1000000
JAWIKI_MAX_TRAIN_SENTENCE_NUM ?= 980000
JAWIKI_MAX_VALIDATION_SENTENCE_NUM ?= 10000
JAWIKI_NUM_FILES ?= 4
TOKENIZER_INPUT_SENTENCES ?= 1000000
