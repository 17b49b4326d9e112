"""Turn token pieces, which are bytes and may end inside a character, into text."""

import codecs


class Detokenizer:
    """Incremental UTF-8: a character that is not complete yet waits for its remaining bytes."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, piece: bytes) -> str:
        """Text of all characters completed by ``piece``; invalid bytes become U+FFFD."""
        return self._decoder.decode(piece)

    def flush(self) -> str:
        """U+FFFD for an unfinished character when no more tokens will come, else nothing."""
        return self._decoder.decode(b"", final=True)
