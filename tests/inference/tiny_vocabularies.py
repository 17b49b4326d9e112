"""Small GGUF files that hold a tokeniser of some kind and nothing else."""

from pathlib import Path

import gguf

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
# As files of gpt-oss have them.
HARMONY = {
    "<|start|>": USER_DEFINED,
    "<|channel|>": USER_DEFINED,
    "<|message|>": USER_DEFINED,
    "<|end|>": CONTROL,
}
GEMMA = {"<|channel>": USER_DEFINED, "<channel|>": USER_DEFINED, "<start_of_turn>": CONTROL}
OTHERS = {"<think>": USER_DEFINED, "[INST]": CONTROL, "<a>": CONTROL, "<a>b": CONTROL}
MARKS = HARMONY | GEMMA | OTHERS
HARMLESS = {"    ": USER_DEFINED, "<b>": USER_DEFINED}
# Parts that a tokeniser may join to a mark, one after the other.
PARTS = [
    "<|",
    "|>",
    "st",
    "art",
    "start",
    "<|start",
    "<|start|",
    "<a",
    "[I",
    "<th",
    "ink",
    "</",
    "s>",
]
KINDS = ("bpe", "spm", "spm-blank", "wpm", "ugm")


def write_vocabulary(path: Path, kind: str, marks: dict[str, int] = MARKS) -> Path:
    """A file with a vocabulary of a kind, which has ``marks`` and ``HARMLESS`` among its tokens."""
    writer = gguf.GGUFWriter(path, "llama")
    tokens = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL}
    if kind == "bpe":
        _add_bpe(writer, tokens)
    elif kind == "wpm":
        _add_wpm(writer, tokens)
    else:
        _add_sentencepiece(writer, tokens, kind)
    tokens |= marks | HARMLESS
    writer.add_token_list(list(tokens))
    writer.add_token_types(list(tokens.values()))
    writer.add_token_scores([-float(place) for place in range(len(tokens))])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def _add_bpe(writer: gguf.GGUFWriter, tokens: dict[str, int]) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    tokens |= dict.fromkeys((_spelled(byte) for byte in range(256)), NORMAL)
    merges = {}
    for part in [*PARTS, *MARKS]:
        for end in range(2, len(part) + 1):
            merges[f"{part[: end - 1]} {part[end - 1]}"] = part[:end]
    tokens |= dict.fromkeys(merges.values(), NORMAL)
    writer.add_token_merges(list(merges))


def _add_sentencepiece(writer: gguf.GGUFWriter, tokens: dict[str, int], kind: str) -> None:
    writer.add_tokenizer_model("t5" if kind == "ugm" else "llama")
    writer.add_add_space_prefix(kind != "spm")
    tokens |= {f"<0x{byte:02X}>": BYTE for byte in range(256)}
    beginnings = [part[:end] for part in [*PARTS, *MARKS] for end in range(2, len(part))]
    characters = [chr(code) for code in range(33, 127)]
    tokens |= dict.fromkeys(["▁", *characters, *PARTS, *beginnings, "▁<", "▁s"], NORMAL)


def _add_wpm(writer: gguf.GGUFWriter, tokens: dict[str, int]) -> None:
    writer.add_tokenizer_model("bert")
    writer.add_sep_token_id(2)
    characters = [chr(code) for code in range(33, 127)]
    tokens |= dict.fromkeys([*characters, *(f"▁{one}" for one in characters)], NORMAL)
    tokens |= dict.fromkeys([*PARTS, *(f"▁{part}" for part in PARTS)], NORMAL)


def _spelled(byte: int) -> str:
    """A byte as byte-level BPE writes it."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    if byte in kept:
        return chr(byte)
    return chr(256 + [other for other in range(256) if other not in kept].index(byte))
