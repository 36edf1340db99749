"""MeCab's search for the best way to cut a text into words, compiled by Numba: the same words in half of the time.

All words that may begin at a place are looked up, each is joined to the word before it that makes the cheapest way so
far, and the cheapest way through the whole line is walked back. What is saved: a node is six integers; words are
looked up by characters, not bytes; and the innermost loop, over all pairs of neighbours, has no branch.

Source: MeCab 0.996, viterbi.cpp (connect, viterbi), tokenizer.cpp (lookup), char_property.h (seekToOtherType). Where
two ways cost the same MeCab takes the one that its linked lists give first, and so do ours.
"""

import numpy as np
from numba import njit

from suzuri.compiled import compiled
from suzuri.double_array import BASE, PARENT, VALUE

LINE_END, BLANK = 0x0A, 0x20
COST, RIGHT, BEFORE, BESIDE, START, STOP = range(6)  # of a node: see `_search`
AT_ONCE = 1 << 14  # more nodes than can begin, or end, at one place: 34 characters are the longest word
STRETCH = 1 << 12  # characters after which is seen what is certain of the way, so that nodes can be forgotten, and
LONGEST_STRETCH = 1 << 18  # after which one is chosen, though what follows might still change it
LONGEST_GROUP = 24  # MeCab's max-grouping-size
NEVER = 1 << 62
CATEGORIES, GROUP, INVOKE = (1 << 18) - 1, 1 << 30, 1 << 31  # of a kind of character: see dictionary.Tables


@compiled
def cut(text, labels, kinds, trie, tokens, unknown, matrix):
    """The words of `text` with one blank between (uint32 [n]), each line ended by LINE_END.

    text: uint32 [n], characters after NFKC; each line, the last one too, ends with LINE_END. The tables are those of
    `dictionary.Tables`.
    """
    out = np.empty(2 * len(text), np.uint32)
    nodes = np.empty((2 * AT_ONCE, 6), np.int64)
    last = np.full(LONGEST_STRETCH + AT_ONCE, -1, np.int64)
    scratch = (
        np.empty(AT_ONCE, np.int64),
        np.empty(AT_ONCE, np.int64),
        np.empty(AT_ONCE, np.int64),
        np.empty(AT_ONCE, np.uint64),
        np.empty(AT_ONCE, np.int64),
    )
    written = place = 0
    while place < len(text):
        end = place
        while text[end] != LINE_END:
            end += 1
        line, right = written, 0
        while place < end:
            nodes, node, place = _search(
                text, place, end, right, nodes, last, scratch, labels, kinds, trie, tokens, unknown, matrix
            )
            right = nodes[node, RIGHT]
            node = _turn(nodes, node)
            while node > 0:
                if written > line:
                    out[written] = BLANK
                    written += 1
                for i in range(nodes[node, START], nodes[node, STOP]):
                    out[written] = text[i]
                    written += 1
                node = nodes[node, BEFORE]
        out[written] = LINE_END
        written += 1
        place += 1
    return out[:written]


@njit
def _search(text, begin, end, right, nodes, last, scratch, labels, kinds, trie, tokens, unknown, matrix):
    """Find the cheapest way from `begin`, after a word of context id `right`, to the line's end or part of the way.

    Returns `nodes`, which may have been moved to grow, the last node of the way, and the place from which to go on.
    Node 0 is the beginning. RIGHT: a node's right context id; BEFORE: the node before it on the cheapest way, which
    costs COST; BESIDE: the next one that ends at the same place, last[place - begin] being the first;
    text[START:STOP]: the word.
    """
    nodes[0] = (0, right, -1, -1, begin, begin)
    last[0] = 0
    count, furthest = 1, begin
    cells = matrix.ravel()  # one index is cheaper than two
    columns = np.uint64(matrix.shape[1])
    words, stops, ways, rights, before = scratch
    n, stretch = 0, STRETCH
    for place in range(begin, end + 1):
        node = last[place - begin]
        if node < 0:
            continue
        if place - begin > stretch and place < end:
            node = _common(nodes, count, last[place - begin : furthest - begin + 1])
            if nodes[node, STOP] - begin > stretch // 2:
                last[place - begin : furthest - begin + 1] = -1
                return nodes, node, nodes[node, STOP]
            stretch *= 2
            node = last[place - begin]
        last[place - begin] = -1
        # A way's cost and, in the lower 16 bits, its number: of equal costs the least number is the least.
        n = 0
        while node >= 0:
            ways[n] = (nodes[node, COST] << 16) + n
            rights[n] = nodes[node, RIGHT]
            before[n] = node
            n += 1
            node = nodes[node, BESIDE]
        if place == end or stretch > LONGEST_STRETCH:
            break
        start = _skip(text, place, end, kinds, kinds[BLANK])
        if start == end:
            break
        many = _look_up(text, start, end, labels, kinds, trie, unknown, words, stops)
        if count + AT_ONCE > len(nodes):
            nodes = np.concatenate((nodes, np.empty_like(nodes)))
        for i in range(many - 1, -1, -1):
            first, stop = words[i] >> 8, stops[i]
            furthest = max(furthest, stop)
            for token in range(first + (words[i] & 0xFF) - 1, first - 1, -1):
                row = np.uint64(tokens[token, 0]) * columns
                best = np.int64(NEVER)
                for k in range(n):
                    best = min(best, ways[k] + (np.int64(cells[row + rights[k]]) << 16))
                nodes[count, COST] = (best >> 16) + tokens[token, 2]
                nodes[count, RIGHT] = tokens[token, 1]
                nodes[count, BEFORE] = before[best & 0xFFFF]
                nodes[count, BESIDE] = last[stop - begin]
                nodes[count, START], nodes[count, STOP] = start, stop
                last[stop - begin] = count
                count += 1
    best = np.int64(NEVER)
    for k in range(n):
        best = min(best, ways[k] + (np.int64(cells[rights[k]]) << 16))  # the line's end has context id 0
    last[place - begin : furthest - begin + 1] = -1
    return nodes, before[best & 0xFFFF], place if stretch > LONGEST_STRETCH else end


@njit
def _common(nodes, count, last):
    """The last node that is on the ways to all the nodes in the lists of `last`, the first `count` being in use."""
    on_way = np.zeros(count, np.bool_)
    ways = 0
    for node in last:
        while node >= 0:
            on_way[node] = True
            ways += 1
            node = nodes[node, BESIDE]
    for node in range(count - 1, 0, -1):
        if on_way[node]:
            if ways == 1:
                return node
            if on_way[nodes[node, BEFORE]]:
                ways -= 1
            on_way[nodes[node, BEFORE]] = True
    return 0


@njit(inline="always")
def _skip(text, place, end, kinds, kind):
    """The first place from `place` on whose character has no category in common with the one before; `kind` is that."""
    while place < end and kinds[text[place]] & kind & CATEGORIES:
        kind = kinds[text[place]]
        place += 1
    return place


@njit(inline="always")
def _look_up(text, start, end, labels, kinds, trie, unknown, words, stops):
    """The words that may begin at `start` into `words` (as the trie has them) and `stops`; returns how many.

    First the dictionary's, the shortest first; then, where there are none or the character asks for it, the unknown
    ones: as long as the category of the first character goes on, and of up to as many characters as that allows.
    """
    n = unit = 0
    stop = start
    while True:
        label = labels[text[stop]]  # 0 at the line's end
        child = trie[unit, BASE] + label
        if label == 0 or trie[child, PARENT] != unit:
            break
        unit = child
        stop += 1
        if trie[unit, VALUE] >= 0:
            words[n], stops[n] = trie[unit, VALUE], stop
            n += 1
    kind = kinds[text[start]]
    if n > 0 and not kind & INVOKE:
        return n
    words[n : n + 17] = unknown[kind >> 18 & 0xFF]
    stop, group = start + 1, -1
    if kind & GROUP:
        group = _skip(text, stop, min(end, stop + LONGEST_GROUP + 1), kinds, kind)
        if group - stop <= LONGEST_GROUP:
            stops[n] = group
            n += 1
    for _ in range(kind >> 26 & 0xF):
        if stop == group:
            break
        stops[n] = stop
        n += 1
        if stop == end or not kinds[text[stop]] & kind & CATEGORIES:
            break
        stop += 1
    if n == 0:
        stops[n] = stop
        n += 1
    return n


@njit
def _turn(nodes, node):
    """Turn the way that ends at `node` around: returns its first node, BEFORE leads to the next ones, then to 0."""
    after = 0
    while node > 0:
        before = nodes[node, BEFORE]
        nodes[node, BEFORE] = after
        after, node = node, before
    return after
