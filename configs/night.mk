# night: the model of mini, trained on a hundred million tokens: four to five hours on two CPU cores.
CC100_MAX_SENTENCE_NUM ?= 3000000
JAWIKI_MAX_SENTENCE_NUM ?= 1000000
CROP_PAIRS ?= 0.25
MODEL ?= nomic-bert-night
include $(ROOT)/configs/mini.mk
