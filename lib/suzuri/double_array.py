"""A trie for look-up by characters: a double array, as MeCab's, but with characters for labels in place of bytes.

Each node takes one unit. Where the node at unit u has a child for the character c, it is at unit

    v = trie[u, BASE] + labels[c],    and then    trie[v, PARENT] == u;

trie[v, VALUE] is what is kept at the child, or -1. Labels are given by frequency, so that the array stays short;
a character that is in no key has label 0. Unit 0 is the root.

Source: Aoe, 1989, "An Efficient Digital Search Algorithm by Using a Double-Array Structure".
"""

import numpy as np

from suzuri.compiled import compiled

BASE, PARENT, VALUE = range(3)
CHARACTERS = 0x110000
LABELS = 1 << 16
PATIENCE = 20_000  # places tried in a row before a stretch of the array is given up as full


def build(parents, characters, children, values):
    """(labels uint16 [0x110000], trie int32 [units, 3]) of a trie's edges.

    parents, characters, children: int64 [edges]; nodes are any numbers below len(values), 0 the root, and characters
    code points. values: int64 [nodes], -1 for none.
    """
    found, counts = np.unique(characters, return_counts=True)
    labels = np.zeros(CHARACTERS, np.uint16)
    labels[found[np.argsort(-counts, kind="stable")]] = np.arange(1, len(found) + 1)
    order = np.lexsort([labels[characters], parents])
    begins = np.searchsorted(parents[order], np.arange(len(values) + 1))
    return labels, lay_out(begins, labels[characters[order]].astype(np.int64), children[order], values)


def from_keys(keys):
    """The same for {key (str): value}."""
    nodes, edges, values = {"": 0}, [], [-1]
    for key, value in keys.items():
        for i in range(1, len(key) + 1):
            if key[:i] not in nodes:
                nodes[key[:i]] = len(values)
                edges.append((nodes[key[: i - 1]], ord(key[i - 1]), len(values)))
                values.append(-1)
        values[nodes[key]] = value
    return build(*np.array(edges, np.int64).reshape(-1, 3).T, np.array(values))


@compiled
def lay_out(begins, labels, children, values):
    """The children of node n, children[begins[n] : begins[n + 1]], each with its label, the least first -> the trie.

    Nodes by their depth; a node's base is the lowest at which all its children are on free units. The free units
    are a linked list.
    """
    size = 4 * len(children) + 4 * LABELS
    trie = np.full((size, 3), -1, np.int32)
    trie[:, BASE] = 0
    trie[0, VALUE] = values[0]
    after, before = np.arange(1, size + 1), np.arange(-1, size - 1)
    nodes, places = np.zeros(len(children) + 1, np.int64), np.zeros(len(children) + 1, np.int64)
    first_free = used = queued = 1
    for i in range(len(nodes)):
        begin, end = begins[nodes[i]], begins[nodes[i] + 1]
        if begin == end:
            continue
        free, tried = first_free, 0
        while True:
            base = free - labels[begin]
            fits = base >= 0
            j = begin + 1
            while fits and j < end:
                fits = trie[base + labels[j], PARENT] < 0
                j += 1
            if fits:
                break
            free = after[free]
            tried += 1
            if tried == PATIENCE:
                first_free, tried = free, 0
            if free + LABELS > size:
                raise MemoryError("a trie too sparse for its array")
        trie[places[i], BASE] = base
        for j in range(begin, end):
            unit = base + labels[j]
            trie[unit, PARENT], trie[unit, VALUE] = places[i], values[children[j]]
            nodes[queued], places[queued] = children[j], unit
            queued += 1
            if unit == first_free:
                first_free = after[unit]
            after[before[unit]], before[after[unit]] = after[unit], before[unit]
            used = max(used, unit + 1)
    return trie[: used + LABELS].copy()
