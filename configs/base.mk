# base: the amounts of tiny, a BERT-base of about 110 million parameters.
MODEL ?= bert-base
MODEL_DISK ?= 10G
