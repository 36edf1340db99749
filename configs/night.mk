# night: the model of mini, trained on a hundred million tokens, 7.7 times as many; a quarter of the sentences become
# pairs. Two cores with bf16 instructions (lscpu: avx512_bf16) need 48 minutes with TRAIN_SET=precision=bf16. Give it
# with every goal, eval and curve, too: another TRAIN_SET means another model.
CC100_MAX_SENTENCE_NUM ?= 3000000
JAWIKI_MAX_SENTENCE_NUM ?= 1000000
CROP_PAIRS ?= 0.25
MODEL ?= nomic-bert-night
include $(ROOT)/configs/mini.mk
