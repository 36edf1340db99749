# demo: the embedded sample, data/sample; minutes on two CPU cores.
CC100_JA_URL ?= $(abspath $(DATA))/raw/sample/ja.txt.xz
CC100_MAX_TRAIN_SENTENCE_NUM ?= 0
CC100_MAX_VALIDATION_SENTENCE_NUM ?= 60
CC100_NUM_FILES ?= 2
JAWIKI_URL ?= $(abspath $(DATA))/raw/sample/cirrus_search_index
JAWIKI_MAX_TRAIN_SENTENCE_NUM ?= 0
JAWIKI_MAX_VALIDATION_SENTENCE_NUM ?= 100
JAWIKI_NUM_FILES ?= 2
VOCAB_SIZE ?= 4096
MAX_SEQ_LENGTH ?= 128
MODEL ?= demo
MODEL_DISK ?= 200M
