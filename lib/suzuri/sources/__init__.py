"""Raw text from where it is published: CC-100, the Japanese Wikipedia's search-index dumps, files of your own.

In: addresses and compressed files. Out: files under raw/, whole and with their sha256, and their text as a stream.
"""
