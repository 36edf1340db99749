# night: the model of mini, trained on a hundred million tokens: four to five hours on two CPU cores. With GPUS=2, two
# processes of one core each instead of two threads, training is a sixth faster (7,000 tokens/s, 5,900).
CC100_MAX_SENTENCE_NUM ?= 3000000
JAWIKI_MAX_SENTENCE_NUM ?= 1000000
CROP_PAIRS ?= 0.25
MODEL ?= nomic-bert-night
include $(ROOT)/configs/mini.mk
