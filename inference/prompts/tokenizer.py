"""The web process's interface to the prompt processes."""

import asyncio
import logging
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar, Unpack

from inference.engine.backend import GrammarError, ModelLoadError
from inference.errors import InvalidRequestError, PayloadTooLargeError, TemporaryResourceError
from inference.prompts import prompt_process
from inference.prompts.chat_template import RenderOptions, TemplateFailedError, texts_in
from inference.prompts.grammar_check import check_grammar
from inference.prompts.known_prompts import KnownPrompts, key_of
from inference.prompts.marks import Marks
from inference.prompts.tracked_text import RESERVED
from models_registry.rules.spec import ModelSpec

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


class Tokenizer:
    """Renders and tokenises in processes that may die; ``param`` arguments name the field."""

    def __init__(self, processes: int, max_characters: int) -> None:
        self._processes = processes
        self._max_characters = max_characters
        self._pool: ProcessPoolExecutor | None = None
        self._retries = asyncio.Semaphore(processes)
        self._known = KnownPrompts()

    async def chat(
        self,
        spec: ModelSpec,
        messages: Sequence[dict[str, Any]],
        param: str = "messages",
        **options: Unpack[RenderOptions],
    ) -> list[int]:
        if not spec.chat_template:
            raise InvalidRequestError(
                f"{spec.model_slug} has no chat template. Use /v1/completions, or set a template "
                "on the version's page.",
                param="model",
                code="no_chat_template",
            )
        said = [value for message in messages for name, value in message.items() if name != "role"]
        variables = dict(options.get("variables") or {})
        texts = {param: said, "tools": options.get("tools"), "chat_template_kwargs": variables}
        self._check(texts, param)
        arguments = (spec.path, spec.chat_template, messages, options)
        return await self._ids(spec, param, prompt_process.tokenize_chat, *arguments)

    async def text(
        self,
        spec: ModelSpec,
        text: str,
        param: str,
        *,
        add_special: bool = True,
        marks: Marks = "none",
    ) -> list[int]:
        self._check({param: text}, param)
        arguments = (spec.path, text, add_special, marks, spec.chat_template)
        return await self._ids(spec, param, prompt_process.tokenize_text, *arguments)

    async def detokenize(self, spec: ModelSpec, token_ids: list[int], param: str) -> str:
        return await self._run(param, prompt_process.detokenize, spec.path, token_ids)

    async def vocabulary_size(self, spec: ModelSpec) -> int:
        return await self._run("model", prompt_process.vocabulary_size, spec.path)

    async def check_grammar(self, spec: ModelSpec, grammar: str, param: str) -> None:
        await self._run(param, check_grammar, spec.path, grammar)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _check(self, texts: Mapping[str, Any], param: str) -> None:
        """Refuse text that would harm the tokeniser; ``texts`` are values by their fields."""
        total = 0
        for field, value in texts.items():
            for text in texts_in(value):
                total += len(text)
                if any(character in text for character in ("\0", *RESERVED)):
                    raise InvalidRequestError(
                        "The text contains a NUL or a Unicode noncharacter. Remove it.", param=field
                    )
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise InvalidRequestError(
                        "The text contains a lone UTF-16 surrogate. Send valid Unicode.",
                        param=field,
                    ) from None
        if total > self._max_characters:
            raise PayloadTooLargeError(
                f"The text has {total} characters; this service takes at most "
                f"{self._max_characters}. Shorten it.",
                param=param,
            )

    async def _ids(
        self, spec: ModelSpec, param: str, function: Callable[..., list[int]], *args: Any
    ) -> list[int]:
        """The ids that ``_run`` gives, from memory if the same file gave them before."""
        file = prompt_process.identity_of(spec.path)
        key = key_of(spec.chat_template, function.__name__, file, args)
        if key and (known := self._known.find(key)) is not None:
            return known
        ids = await self._run(param, function, *args)
        if key and prompt_process.identity_of(spec.path) == file:
            self._known.keep(key, ids)
        return ids

    async def _run(self, param: str, function: Callable[..., Result], *args: Any) -> Result:
        """Call ``function`` in a prompt process; convert its errors to those of the client.

        If a process dies, all prompts in the pool fail; each is tried again in its own process.
        """
        try:
            try:
                return await self._run_among_others(function, *args)
            except BrokenProcessPool:
                logger.warning("a prompt process died; its prompts are tried again one by one")
                return await self._run_alone(function, *args)
        except BrokenProcessPool:
            raise InvalidRequestError(
                f"{param!r} could not be read: the process that read it ended twice. "
                "Shorten or change it.",
                param=param,
            ) from None
        except GrammarError as error:
            raise InvalidRequestError(
                f"{param!r} cannot be used: {error}. Correct or simplify it.", param=param
            ) from error
        except (TemplateFailedError, ValueError) as error:
            raise InvalidRequestError(str(error), param=param) from error
        except MemoryError as error:
            raise InvalidRequestError(
                f"{param!r} needs too much memory to read. Shorten it.", param=param
            ) from error
        except ModelLoadError as error:
            raise TemporaryResourceError(str(error), retry_after_ms=5000) from error

    async def _run_among_others(self, function: Callable[..., Result], *args: Any) -> Result:
        pool = self._pool = self._pool or self._new_pool(self._processes)
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function, *args)
        except BrokenProcessPool:
            if self._pool is pool:
                self.close()
            raise

    async def _run_alone(self, function: Callable[..., Result], *args: Any) -> Result:
        async with self._retries:
            pool = self._new_pool(1)
            try:
                return await asyncio.get_running_loop().run_in_executor(pool, function, *args)
            finally:
                pool.shutdown(wait=False)

    def _new_pool(self, processes: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=processes,
            # The process must not inherit threads or connections of the web process.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=prompt_process.initialise,
        )
