"""Prompt lookup: guess that a text continues as it did after an earlier occurrence of its end.

Follows A. Saxena's prompt lookup decoding (https://github.com/apoorvumang/prompt-lookup-decoding),
with the hash chains of LZ77 compressors (RFC 1951, section 4) in place of a scan of the whole text.
"""

from collections.abc import Hashable

from inference.engine.drafting.drafter import Draft, DraftRequest

# In answers of SmolLM2 half of the repeated pairs continued as before, 7 in 10 of the triples and
# more than 8 in 10 of four tokens: a pair is worth a guess where guesses cost little.
MIN_MATCH_TOKENS = 2
# Longer matches are not distinguished: nearly all of them continue as before.
MAX_MATCH_TOKENS = 10
# Earlier occurrences compared per draft, newest first; a repetitive text does not need older ones.
MAX_CANDIDATES = 8
# Only this many last tokens of a text are indexed; one takes about 140 bytes.
MAX_INDEXED_TOKENS = 32_768

_NOWHERE = -1


class NgramIndex:
    """The positions of each run of ``MIN_MATCH_TOKENS`` tokens in a growing text."""

    def __init__(self, token_count: int) -> None:
        """``token_count`` is the length of the text at the first call."""
        self._start = max(0, token_count - MAX_INDEXED_TOKENS)
        self._newest: dict[tuple[int, ...], int] = {}
        self._older: list[int] = []

    def longest_match(self, token_ids: list[int]) -> tuple[int, int]:
        """Find an earlier occurrence of the end of the text, which has grown since the last call.

        Returns the position after the newest of the longest occurrences, and its length in tokens:
        0 for none, at most ``MAX_MATCH_TOKENS``.
        """
        # Index the new runs, except one at the very end: the end must not find itself.
        for end in range(self._first_end + len(self._older), len(token_ids)):
            run = tuple(token_ids[end - MIN_MATCH_TOKENS : end])
            self._older.append(self._newest.get(run, _NOWHERE))
            self._newest[run] = end
        best, best_length = _NOWHERE, 0
        position = self._newest.get(tuple(token_ids[-MIN_MATCH_TOKENS:]), _NOWHERE)
        for _ in range(MAX_CANDIDATES):
            if position == _NOWHERE or best_length == MAX_MATCH_TOKENS:
                break
            length = _match_length(token_ids, position, self._start)
            if length > best_length:
                best, best_length = position, length
            position = self._older[position - self._first_end]
        return best, best_length

    @property
    def _first_end(self) -> int:
        return self._start + MIN_MATCH_TOKENS


class NgramDrafter:
    """Drafts from one index per sequence; a grade is the length of the match."""

    top_grade = MAX_MATCH_TOKENS - MIN_MATCH_TOKENS
    is_free = True

    def __init__(self) -> None:
        self._indices: dict[Hashable, NgramIndex] = {}

    def seconds(self, tokens: int, rounds: int) -> float:
        return 0.0

    def propose(self, requests: list[DraftRequest]) -> list[Draft]:
        return [self._draft(request) for request in requests]

    def forget(self, key: Hashable) -> None:
        self._indices.pop(key, None)

    def _draft(self, request: DraftRequest) -> Draft:
        text = request.token_ids
        index = self._indices.get(request.key)
        if index is None:
            index = self._indices[request.key] = NgramIndex(len(text))
        position, length = index.longest_match(text)
        if not length:
            return Draft()
        # Where the earlier occurrence runs into the end of the text, the text is periodic, and the
        # draft continues with the same period.
        period = len(text) - position
        source = text[position : position + request.tokens]
        tokens = [source[i % period] for i in range(request.tokens)]
        # Once the tokens before it are right, a token is backed by a match longer by their number.
        grades = [min(length + i - MIN_MATCH_TOKENS, self.top_grade) for i in range(request.tokens)]
        return Draft(tokens, grades)


def _match_length(token_ids: list[int], position: int, start: int) -> int:
    """Length of the match that ends at ``position``, at least ``MIN_MATCH_TOKENS``."""
    end = len(token_ids)
    longest = min(MAX_MATCH_TOKENS, position - start)
    length = MIN_MATCH_TOKENS
    while length < longest and token_ids[position - length - 1] == token_ids[end - length - 1]:
        length += 1
    return length
