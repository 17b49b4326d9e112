"""The architectures that the registry takes are those of the llama.cpp that is installed."""

import re
from pathlib import Path

import llama_cpp
from gguf import MODEL_ARCH_NAMES

from models_registry.gguf.architectures import NEWER_THAN_GGUF, is_known

LIBRARY = (Path(llama_cpp.__file__).parent / "lib" / "libllama.so").read_bytes()


def test_registry_takes_every_architecture_that_llama_cpp_names() -> None:
    # Its names are next to one another among the constants; one that ends another is kept there.
    names = re.search(rb"\0llama\0llama4\0([ -~\0]*?)\(unknown\)\0", LIBRARY)
    assert names is not None
    listed = [name.decode() for name in names[1].split(b"\0") if name]
    assert len(listed) > 100
    assert [name for name in listed if not is_known(name)] == []


def test_llama_cpp_has_every_architecture_that_the_registry_takes() -> None:
    known = {name for name in NEWER_THAN_GGUF.union(MODEL_ARCH_NAMES.values()) if is_known(name)}
    assert [name for name in known if name.encode() + b"\0" not in LIBRARY] == []


def test_registry_takes_no_part_of_a_model_that_sees() -> None:
    assert not is_known("clip")
