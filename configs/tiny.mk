# tiny (the default): tiny-plm's amounts, which are the Makefile's defaults; a BERT of 13 million parameters.
