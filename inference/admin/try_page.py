"""A page of the admin on which a version answers a prompt, by the way that API requests go.

It runs as the user who is logged in: queue, limits and the record of the request are the same.
"""

import json
from typing import Any, Final, cast

from django import forms
from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
)

from inference.answers.openai import CompletionFormat
from inference.answers.tool_calls import chat_format
from inference.api.delivery import answer
from inference.api.error_renderer import as_inference_error, error_body
from inference.api.view import json_response
from inference.database import in_database
from inference.errors import AuthenticationError, InferenceError, PermissionDeniedError
from inference.orders.chat import chat_order
from inference.orders.completion import completion_order
from inference.orders.order import Order
from inference.orders.parsing import parse
from inference.orders.requests import ChatRequest, CompletionRequest
from inference.principal import INFERENCE, Principal
from inference.runs.runtime import runtime
from models_registry.access import OPERATE
from models_registry.catalogue.lookup import find_version
from models_registry.models import Model, ModelVersion

_TEMPLATE: Final = "inference/try.html"
_USUAL_MAX_TOKENS: Final = 256


class TryForm(forms.Form):
    system = forms.CharField(
        label="System prompt",
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="Only for models that take chats.",
    )
    prompt = forms.CharField(widget=UnfoldAdminTextareaWidget(attrs={"rows": 5}))
    max_tokens = forms.IntegerField(
        label="Max tokens",
        min_value=1,
        initial=_USUAL_MAX_TOKENS,
        widget=UnfoldAdminIntegerFieldWidget(),
    )
    temperature = forms.DecimalField(
        required=False,
        min_value=0,
        max_value=2,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "0.1"}),
        help_text="Empty for the version's own.",
    )


async def try_page(request: HttpRequest, version_key: str) -> HttpResponseBase:
    """The form and the answer: as events, or in the page without JavaScript."""
    wants_events = "text/event-stream" in request.headers.get("Accept", "")
    refusal = await in_database(_refusal, request)
    if refusal is not None:
        return _refuse(request, refusal, wants_events=wants_events)
    found = await in_database(_version_for, version_key)
    if request.method != "POST":
        return await _page(request, found, TryForm())
    form = TryForm(request.POST)
    if not form.is_valid():
        if wants_events:
            faults = [
                f"{form[name].label}: {text}"
                for name, texts in form.errors.items()
                for text in texts
            ]
            return json_response({"error": {"message": " ".join(faults)}}, status=400)
        return await _page(request, found, form)
    try:
        return await _answer(request, found, form, wants_events=wants_events)
    except InferenceError as error:
        known = error
    except Exception as error:
        known = as_inference_error(error)
    if wants_events:
        return json_response(error_body(known), status=known.status)
    return await _page(request, found, form, error=known.message)


async def _answer(
    request: HttpRequest, version: ModelVersion, form: TryForm, *, wants_events: bool
) -> HttpResponseBase:
    order = await _order(version, form.cleaned_data, wants_events)
    format_of = chat_format if order.kind == "chat" else CompletionFormat
    user = request.user
    principal = Principal(cast("int", user.pk), user.get_username(), frozenset({INFERENCE}))
    response = await answer(order, principal, format_of, streamed=wants_events)
    if not isinstance(response, HttpResponse):
        return response
    choice = json.loads(response.content)["choices"][0]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return await _page(request, version, form, answer=text)


async def _order(version: ModelVersion, asked: dict[str, Any], wants_events: bool) -> Order:
    fields: dict[str, Any] = {"model": version.key, "max_tokens": asked["max_tokens"]}
    if asked["temperature"] is not None:
        fields["temperature"] = float(asked["temperature"])
    if wants_events:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    if not version.chat_template:
        text = parse(fields | {"prompt": asked["prompt"]}, CompletionRequest)
        return await completion_order(runtime(), text)
    messages = [{"role": "user", "content": asked["prompt"]}]
    if asked["system"]:
        messages.insert(0, {"role": "system", "content": asked["system"]})
    return await chat_order(runtime(), parse(fields | {"messages": messages}, ChatRequest))


def _refusal(request: HttpRequest) -> InferenceError | None:
    """The reason why the user may not try prompts, or None. Reads the database."""
    if not admin.site.has_permission(request):
        return AuthenticationError("You are not logged in any more. Reload the page to log in.")
    if not request.user.has_perm(OPERATE):
        return PermissionDeniedError("You may not try prompts. Ask for the group Operators.")
    return None


def _refuse(
    request: HttpRequest, refusal: InferenceError, *, wants_events: bool
) -> HttpResponseBase:
    """Send the refusal to the script, or the user to the login. Raises ``PermissionDenied``."""
    if wants_events:
        return json_response(error_body(refusal), status=refusal.status)
    if isinstance(refusal, AuthenticationError):
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))
    raise PermissionDenied


def _version_for(version_key: str) -> ModelVersion:
    """Reads the database. Raises ``Http404`` unless the version generates text."""
    version = find_version(version_key)
    if version is None or version.model.type != Model.Type.TEXT_GENERATION:
        raise Http404(f"There is no version {version_key!r} that generates text.")
    return version


async def _page(
    request: HttpRequest, version: ModelVersion, form: TryForm, answer: str = "", error: str = ""
) -> HttpResponse:
    return await in_database(_render, request, version, form, answer, error)


def _render(
    request: HttpRequest, version: ModelVersion, form: TryForm, answer: str, error: str
) -> HttpResponse:
    context = {
        **admin.site.each_context(request),
        "title": f"Try {version.key}",
        "version": version,
        "form": form,
        "answer": answer,
        "error": error,
        "is_loaded": version.replicas.filter(state="ready").exists(),
    }
    return render(request, _TEMPLATE, context)
