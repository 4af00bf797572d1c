"""Allocation-heavy Python: dicts, strings, JSON, objects, sorting. Deterministic.

usage: python_load.py SCALE [idle]

With "idle" it drops everything it built, writes "idle" on a line, and waits for the end of its
input, so that its memory can be looked at.
"""
import gc
import json
import sys


class Node:
    __slots__ = ("key", "children", "text")

    def __init__(self, key, text):
        self.key = key
        self.text = text
        self.children = []


def words(count, seed):
    value = seed
    for _ in range(count):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
        yield "w%x" % (value >> 7)


def documents(scale):
    rows = []
    text = list(words(5000, 3))
    for i in range(2500 * scale):
        rows.append({
            "id": i,
            "name": text[i % 5000] + str(i),
            "tags": text[i % 4000:i % 4000 + 6],
            "score": i * 0.37,
            "nested": {"a": [i, i + 1, i + 2], "b": {"c": text[(i * 7) % 5000] * 3}},
        })
    return rows


def json_round_trips(scale):
    rows = documents(scale)
    total = 0
    for _ in range(3):
        text = json.dumps(rows)
        total += len(text)
        rows = json.loads(text)
    return rows, total


def word_count(scale):
    counts = {}
    for word in words(150000 * scale, 11):
        counts[word] = counts.get(word, 0) + 1
    return counts


def tree(depth, width, text):
    node = Node(depth, text + str(depth))
    if depth > 0:
        node.children = [tree(depth - 1, width, text + "x") for _ in range(width)]
    return node


def strings(scale):
    parts = []
    for i in range(30000 * scale):
        parts.append(("%08d-" % i) * (1 + i % 9))
    whole = ",".join(parts)
    split = whole.split(",")
    split.sort(key=lambda part: part[::-1])
    return [part.upper() for part in split if "7" in part]


def load(scale):
    rows, total = json_round_trips(scale)
    counts = word_count(scale)
    trees = [tree(7, 4, "") for _ in range(scale // 2 + 1)]
    upper = strings(scale)
    arrays = [bytearray(1000 + (i * 7919) % 60000) for i in range(200 * scale)]
    return len(rows) + total + len(counts) + len(trees) + len(upper) + sum(map(len, arrays))


def main():
    print(load(int(sys.argv[1])), flush=True)
    if sys.argv[2:] == ["idle"]:
        gc.collect()
        print("idle", flush=True)
        sys.stdin.read()


main()
