"""Prompt lookup: guess that a text goes on as it did where its last tokens stood before.

Follows A. Saxena's prompt lookup decoding (https://github.com/apoorvumang/prompt-lookup-decoding),
with the hash chains of LZ77 compressors (RFC 1951, section 4) in place of a scan of the whole text.
"""

from collections.abc import Hashable

from inference.engine.drafting.drafter import Draft, DraftRequest

# Of the pairs found again half went on alike in answers of SmolLM2, of three tokens 7 in 10, of
# four more than 8: a pair is worth a guess where guesses cost little.
MIN_MATCH_TOKENS = 2
# Longer matches are not told apart: nearly all go on alike.
MAX_MATCH_TOKENS = 10
# Places compared per draft, newest first. A text that repeats itself has no need of older ones.
MAX_CANDIDATES = 8
# Of a longer text only the end is searched; one token takes about 140 bytes.
MAX_INDEXED_TOKENS = 32_768

_NOWHERE = -1


class NgramIndex:
    """Where each run of ``MIN_MATCH_TOKENS`` tokens of a growing text occurred."""

    def __init__(self, token_count: int) -> None:
        """``token_count`` tokens are there when the index begins."""
        self._start = max(0, token_count - MAX_INDEXED_TOKENS)
        self._newest: dict[tuple[int, ...], int] = {}
        self._older: list[int] = []

    def longest_match(self, token_ids: list[int]) -> tuple[int, int]:
        """Where the end of the text stood before.

        Args:
            token_ids: the text; what an earlier call was given, or more.

        Returns:
            The position after the earlier occurrence and its length in tokens, at most
            ``MAX_MATCH_TOKENS``; the newest of the longest. The length is 0 when there is none.
        """
        self._extend(token_ids)
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
        """The position after the first run."""
        return self._start + MIN_MATCH_TOKENS

    def _extend(self, token_ids: list[int]) -> None:
        """Add the runs that something follows, so that the end never finds itself."""
        for end in range(self._first_end + len(self._older), len(token_ids)):
            run = tuple(token_ids[end - MIN_MATCH_TOKENS : end])
            self._older.append(self._newest.get(run, _NOWHERE))
            self._newest[run] = end


class NgramDrafter:
    """Drafts for many sequences from an index each; a grade is the length of the match."""

    top_grade = MAX_MATCH_TOKENS - MIN_MATCH_TOKENS
    is_free = True

    def __init__(self) -> None:
        self._indices: dict[Hashable, NgramIndex] = {}

    def seconds(self, tokens: int, rounds: int) -> float:
        """None: microseconds."""
        return 0.0

    def propose(self, requests: list[DraftRequest]) -> list[Draft]:
        """What followed the longest earlier occurrence of each text's end."""
        return [self._draft(request) for request in requests]

    def forget(self, key: Hashable) -> None:
        """Drop a sequence's index."""
        self._indices.pop(key, None)

    def _draft(self, request: DraftRequest) -> Draft:
        text = request.token_ids
        index = self._indices.get(request.key)
        if index is None:
            index = self._indices[request.key] = NgramIndex(len(text))
        position, length = index.longest_match(text)
        if not length:
            return Draft()
        # Where the earlier occurrence runs into the end of the text, the text repeats itself with
        # the period in between, and so does the draft.
        period = len(text) - position
        source = text[position : position + request.tokens]
        tokens = [source[i % period] for i in range(request.tokens)]
        # A token after right ones is backed by a match that is longer by these.
        grades = [min(length + i - MIN_MATCH_TOKENS, self.top_grade) for i in range(request.tokens)]
        return Draft(tokens, grades)


def _match_length(token_ids: list[int], position: int, start: int) -> int:
    """How many tokens before ``position`` are those at the end, at least ``MIN_MATCH_TOKENS``."""
    end = len(token_ids)
    longest = min(MAX_MATCH_TOKENS, position - start)
    length = MIN_MATCH_TOKENS
    while length < longest and token_ids[position - length - 1] == token_ids[end - length - 1]:
        length += 1
    return length
