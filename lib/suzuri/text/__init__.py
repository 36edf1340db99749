"""Text: from paragraphs or Wikipedia's dumps to clean sentences, in random order and without duplicates.

In: unpacked text or Cirrus NDJSON, as a stream. Out: a folder of valid.txt, train-000.txt…, one sentence per line,
and its manifest.json.
"""
