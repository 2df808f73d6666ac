"""Byte pair encoding from its definition, one merge at a time: slow, and plain to read."""

import html
import itertools
from collections import Counter

import ftfy
import regex

PATTERN = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)
ENDS = ("<|startoftext|>", "<|endoftext|>")


def letters():
    """Byte -> character: itself where Latin-1 prints it, else one from 256 on."""
    printed = {b for b in range(256) if chr(b).isprintable() and b not in (0x20, 0xA0)}
    table, unprinted = {}, 0
    for b in range(256):
        table[b] = chr(b) if b in printed else chr(256 + unprinted)
        unprinted += b not in printed
    return table


def clean(text):
    """As OpenAI's CLIP cleans a caption."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return regex.sub(r"\s+", " ", text).strip().lower()


def bpe(symbols, ranks):
    """Merges the pair of the lowest rank, everywhere, until no pair has one."""
    while len(symbols) > 1:
        pairs = list(itertools.pairwise(symbols))
        best = min(pairs, key=lambda p: ranks.get(p, len(ranks)))
        if best not in ranks:
            break
        merged, i = [], 0
        while i < len(symbols):
            if tuple(symbols[i : i + 2]) == best:
                merged.append("".join(best))
                i += 2
            else:
                merged.append(symbols[i])
                i += 1
        symbols = merged
    return symbols


def encode(text, vocab, merges):
    """Ids of a text, without its ends."""
    table, ranks = letters(), {pair: i for i, pair in enumerate(merges)}
    ids = []
    for word in PATTERN.findall(clean(text)):
        if word in ENDS:
            ids.append(vocab[word])
            continue
        symbols = [table[b] for b in word.encode()]
        symbols[-1] += "</w>"
        ids += [vocab[s] for s in bpe(symbols, ranks)]
    return ids


def frequencies(texts, merges):
    """(how often the pair of a merge occurs, how often the most frequent pair does) per merge."""
    table, words = letters(), Counter()
    for text in texts:
        for word in PATTERN.findall(clean(text)):
            symbols = [table[b] for b in word.encode()]
            words[(*symbols[:-1], symbols[-1] + "</w>")] += 1
    found = []
    for pair in merges:
        pairs = Counter()
        for symbols, count in words.items():
            for two in itertools.pairwise(symbols):
                pairs[two] += count
        found.append((pairs[pair], max(pairs.values())))
        merged = Counter()
        for symbols, count in words.items():
            merged[tuple(bpe(list(symbols), {pair: 0}))] += count
        words = merged
    return found
