# night: the model of mini, trained on a hundred million tokens, which is 7.7 times as long; a quarter of the sentences
# as pairs. On a CPU with bf16 instructions (lscpu: avx512_bf16) give TRAIN_SET=precision=bf16: then two cores need 48
# minutes.
CC100_MAX_SENTENCE_NUM ?= 3000000
JAWIKI_MAX_SENTENCE_NUM ?= 1000000
CROP_PAIRS ?= 0.25
MODEL ?= nomic-bert-night
include $(ROOT)/configs/mini.mk
