"""The web process's door to the prompt process."""

import asyncio
import logging
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from inference.engine.backend import GrammarError, ModelLoadError
from inference.errors import InvalidRequestError, PayloadTooLargeError, TemporaryResourceError
from inference.prompts import worker
from inference.prompts.chat_template import (
    RESERVED,
    Scalar,
    TemplateFailedError,
    texts_in,
)
from inference.prompts.grammar_check import check_grammar
from inference.prompts.marks import Marks
from models_registry.rules.spec import ModelSpec

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


class Tokenizer:
    """Renders and tokenises off the event loop, in processes that may die without harm."""

    def __init__(self, processes: int, max_characters: int) -> None:
        self._processes = processes
        self._max_characters = max_characters
        self._pool: ProcessPoolExecutor | None = None
        self._retries = asyncio.Semaphore(processes)

    async def chat(
        self,
        spec: ModelSpec,
        messages: Sequence[dict[str, Any]],
        param: str = "messages",
        *,
        tools: Sequence[dict[str, Any]] | None = None,
        variables: Mapping[str, Scalar] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
    ) -> list[int]:
        """Token ids of a conversation in the model's own format.

        Args:
            spec: the model, with its template.
            messages: dicts with ``role`` and ``content``, and whatever else the template reads.
            param: the field of the messages, for errors.
            tools: for templates that read them.
            variables: further variables of the template (``chat_template_kwargs``).
            add_generation_prompt: end with the opening of the assistant's turn.
            continue_final_message: end with the text of the last message instead.

        Raises:
            InvalidRequestError: the model has no chat template or the template refuses the
                messages, or a text has characters that no model can read.
            PayloadTooLargeError: there is more text than the service tokenises.
        """
        if not spec.chat_template:
            raise InvalidRequestError(
                f"{spec.model_slug} has no chat template. Use /v1/completions, or set a template "
                "in its version.",
                param="model",
                code="no_chat_template",
            )
        words = [value for message in messages for name, value in message.items() if name != "role"]
        total = 0
        told = {param: words, "tools": tools, "chat_template_kwargs": dict(variables or {})}
        for place, said in told.items():
            for text in texts_in(said):
                self._check(text, place)
                total += len(text)
        self._check_length(total, param)
        return await self._run(
            param,
            worker.tokenize_chat,
            spec.path,
            spec.chat_template,
            messages,
            tools,
            variables,
            add_generation_prompt,
            continue_final_message,
        )

    async def text(
        self,
        spec: ModelSpec,
        text: str,
        param: str,
        *,
        add_special: bool = True,
        marks: Marks = "none",
    ) -> list[int]:
        """Token ids of a text, as ``worker.tokenize_text``. Raises as ``chat`` does."""
        self._check(text, param)
        self._check_length(len(text), param)
        return await self._run(
            param,
            worker.tokenize_text,
            spec.path,
            text,
            add_special,
            marks,
            spec.chat_template,
        )

    async def detokenize(self, spec: ModelSpec, token_ids: list[int], param: str) -> str:
        """Text of token ids. Raises ``InvalidRequestError`` for an id outside the vocabulary."""
        return await self._run(param, worker.detokenize, spec.path, token_ids)

    async def vocabulary_size(self, spec: ModelSpec) -> int:
        """How many tokens the model knows."""
        return await self._run("model", worker.vocabulary_size, spec.path)

    async def check_grammar(self, spec: ModelSpec, grammar: str, param: str) -> None:
        """See that answers of this model can be held to ``grammar``.

        Args:
            spec: whose vocabulary counts.
            grammar: Lark as llguidance reads it; ``inference.orders.grammar`` bounds its size.
            param: the field that asks for it, for errors.

        Raises:
            InvalidRequestError: it is wrong, matches nothing, or takes too much to follow.
        """
        await self._run(param, check_grammar, spec.path, grammar)

    def close(self) -> None:
        """End the prompt processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _check(self, text: str, param: str) -> None:
        """Refuse what would harm the tokeniser: NULs, lone surrogates, our own noncharacters."""
        if any(character in text for character in ("\0", *RESERVED)):
            raise InvalidRequestError(
                "The text contains a NUL or a Unicode noncharacter. Remove it.", param=param
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRequestError(
                "The text contains a lone UTF-16 surrogate. Send valid Unicode.", param=param
            ) from None

    def _check_length(self, characters: int, param: str) -> None:
        if characters > self._max_characters:
            raise PayloadTooLargeError(
                f"The text has {characters} characters; this service takes at most "
                f"{self._max_characters}.",
                param=param,
            )

    async def _run(self, param: str, function: Callable[..., Result], *args: Any) -> Result:
        """Run in a prompt process and tell the client what is wrong with the prompt.

        A process that dies takes along every prompt that was in the pool, so each is tried once
        more: in a process of its own, where it can meet no harm but what it does itself.
        """
        try:
            try:
                return await self._run_among_others(function, *args)
            except BrokenProcessPool:
                logger.warning("the prompt process died; its prompts are tried again one by one")
                return await self._run_alone(function, *args)
        except BrokenProcessPool:
            raise InvalidRequestError(
                f"{param!r} could not be read: the process that tried ended twice. "
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
            # Neither threads nor connections of the web process may be inherited.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=worker.initialise,
        )
