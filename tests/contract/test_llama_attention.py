"""ggml's attention on a CPU, which we patch, against the same in NumPy."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

# What F16 rounds away of values around 1.
TOLERANCE = 0.02
HEAD_SIZE, HEADS, KV_HEADS = 64, 6, 2
F32, F16 = 0, 1


class InitParameters(ctypes.Structure):
    """``ggml_init_params`` of ggml.h."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


class Ggml:
    """The few functions of ggml that a test of one operator needs, and memory for tensors."""

    def __init__(self) -> None:
        folder = Path(llama_cpp.__file__).parent / "lib"
        self._base = ctypes.CDLL(str(folder / "libggml-base.so"))
        self._cpu = ctypes.CDLL(str(folder / "libggml-cpu.so"))
        self._cpu.ggml_cpu_init()
        for name in ("init", "new_tensor_4d", "permute", "flash_attn_ext", "new_graph", "get_data"):
            getattr(self._base, f"ggml_{name}").restype = ctypes.c_void_p
        self._base.ggml_init.argtypes = [InitParameters]
        self._context = ctypes.c_void_p(
            self._base.ggml_init(InitParameters(128 << 20, None, False))
        )

    def close(self) -> None:
        self._base.ggml_free(self._context)

    def tensor(self, values: np.ndarray) -> ctypes.c_void_p:
        """A copy of an array; its last axis is ggml's first."""
        sizes = [ctypes.c_int64(size) for size in values.shape[::-1]]
        sizes += [ctypes.c_int64(1)] * (4 - len(sizes))
        kind = F16 if values.dtype == np.float16 else F32
        new = ctypes.c_void_p(self._base.ggml_new_tensor_4d(self._context, kind, *sizes))
        ctypes.memmove(self._base.ggml_get_data(new), values.ctypes.data, values.nbytes)
        return new

    def attend(
        self, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray, threads: int
    ) -> np.ndarray:
        """Attention as llama.cpp lays it out: (rows or cells, heads, head size)."""
        heads_first = [
            ctypes.c_void_p(self._base.ggml_permute(self._context, self.tensor(each), 0, 2, 1, 3))
            for each in (q, k, v)
        ]
        scale, none = ctypes.c_float(HEAD_SIZE**-0.5), ctypes.c_float(0)
        result = ctypes.c_void_p(
            self._base.ggml_flash_attn_ext(
                self._context, *heads_first, self.tensor(mask), scale, none, none
            )
        )
        graph = ctypes.c_void_p(self._base.ggml_new_graph(self._context))
        self._base.ggml_build_forward_expand(graph, result)
        self._cpu.ggml_graph_compute_with_ctx(self._context, graph, threads)
        data = ctypes.cast(self._base.ggml_get_data(result), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(data, shape=q.shape).copy()


@pytest.fixture
def ggml() -> Iterator[Ggml]:
    library = Ggml()
    yield library
    library.close()


def expected(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The same by the book, in double precision."""
    group = HEADS // KV_HEADS
    keys, values = (np.repeat(each.astype(np.float64), group, axis=1) for each in (k, v))
    scores = np.einsum("rhd,chd->hrc", q.astype(np.float64), keys) * HEAD_SIZE**-0.5
    scores += mask.astype(np.float64)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    return np.einsum("hrc,chd->rhd", weights, values)


def own_cells(rows: int, before: int, cells: int, begin: int) -> np.ndarray:
    """A prompt of ``rows`` behind ``before`` cells, from cell ``begin`` on."""
    mask = np.full((rows, cells), -np.inf, np.float16)
    for row in range(rows):
        mask[row, begin : begin + before + row + 1] = 0
    return mask


def interleaved(rows: int, cells: int) -> np.ndarray:
    """An answer in each row; they took their cells in turns."""
    return np.where(
        np.arange(cells) % rows == np.arange(rows)[:, None], np.float16(0), np.float16(-np.inf)
    )


def check(ggml: Ggml, mask: np.ndarray, threads: int = 2) -> None:
    rows, cells = mask.shape
    random = np.random.default_rng(rows * 1000 + cells)
    q = random.normal(0, 2, (rows, HEADS, HEAD_SIZE)).astype(np.float32)
    k, v = random.normal(0, 1, (2, cells, KV_HEADS, HEAD_SIZE)).astype(np.float16)
    difference = np.abs(ggml.attend(q, k, v, mask, threads) - expected(q, k, v, mask))
    assert difference.max() < TOLERANCE


@pytest.mark.parametrize("rows", [1, 3, 15, 16, 40, 63, 64, 65, 130])
@pytest.mark.parametrize("before", [0, 1, 300])
@pytest.mark.parametrize("begin", [0, 5, 64, 333])
def test_attention_of_a_prompt_sees_its_own_cells_alone(
    ggml: Ggml, rows: int, before: int, begin: int
) -> None:
    check(ggml, own_cells(rows, before, begin + before + rows + 7, begin))


@pytest.mark.parametrize("rows", [2, 8, 16, 33, 70])
@pytest.mark.parametrize("cells", [71, 256, 701])
def test_attention_of_answers_sees_the_cells_of_each(ggml: Ggml, rows: int, cells: int) -> None:
    check(ggml, interleaved(rows, cells))


@pytest.mark.parametrize("threads", [1, 2, 5, 30])
def test_attention_of_a_prompt_beside_answers_does_not_depend_on_threads(
    ggml: Ggml, threads: int
) -> None:
    answers = interleaved(7, 350)
    prompt = own_cells(40, 100, 350 + 160, 350)
    padded = np.pad(answers, ((0, 0), (0, 160)), constant_values=-np.inf)
    check(ggml, np.concatenate([prompt, padded]), threads)


def test_attention_that_missed_one_cell_would_be_seen(ggml: Ggml) -> None:
    mask = own_cells(40, 300, 400, 20)
    random = np.random.default_rng(1)
    q = random.normal(0, 2, (40, HEADS, HEAD_SIZE)).astype(np.float32)
    k, v = random.normal(0, 1, (2, 400, KV_HEADS, HEAD_SIZE)).astype(np.float16)
    computed = ggml.attend(q, k, v, mask, 2)
    mask[:, 20] = -np.inf
    assert np.abs(computed - expected(q, k, v, mask)).max() > TOLERANCE
