"""MeCab, through fugashi, with the dictionary unidic-lite."""

import functools
import os

from suzuri.errors import DataError


@functools.cache
def tagger(output: str = ""):
    """MeCab with unidic-lite: one per process for each kind of output, since a Tagger must not be shared."""
    import fugashi
    import unidic_lite

    folder = unidic_lite.DICDIR
    try:
        return fugashi.GenericTagger(f'-d "{folder}" -r "{os.path.join(folder, "mecabrc")}" {output}')
    except RuntimeError:
        raise DataError(folder, "MeCab cannot load it: too little memory (ulimit -v), or files are missing") from None
