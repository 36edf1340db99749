# tiny (the default): tiny-plm's recipe as it stands in the Makefile, a BERT of 13 million parameters.
