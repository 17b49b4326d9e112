// Sends the form and shows the answer as it comes. Without this script the form works as a form.
"use strict";

(() => {
  const form = document.getElementById("try-form");
  const stop = document.getElementById("try-stop");
  const answer = document.getElementById("try-answer");
  const figures = document.getElementById("try-figures");
  const fault = document.getElementById("try-error");
  const send = form.querySelector("button[type=submit]");

  const showError = (text) => {
    fault.hidden = !text;
    fault.firstElementChild.textContent = text;
  };

  const began = () => ({ at: performance.now(), firstAt: 0, usage: null });

  const summary = (run) => {
    const seconds = (performance.now() - run.at) / 1000;
    const first = run.firstAt ? `, the first after ${((run.firstAt - run.at) / 1000).toFixed(2)} s` : "";
    const tokens = run.usage ? run.usage.completion_tokens : 0;
    return `${tokens} tokens in ${seconds.toFixed(1)} s${first}`;
  };

  const take = (line, run) => {
    if (line.startsWith(": loading")) {
      figures.textContent = `Being loaded: ${line.slice(10)}`;
    }
    if (!line.startsWith("data: ") || line === "data: [DONE]") {
      return;
    }
    const event = JSON.parse(line.slice(6));
    if (event.error) {
      throw new Error(event.error.message);
    }
    run.usage = event.usage || run.usage;
    for (const choice of event.choices || []) {
      const text = choice.delta ? choice.delta.content : choice.text;
      if (text) {
        run.firstAt = run.firstAt || performance.now();
        figures.textContent = "";
        answer.textContent += text;
      }
    }
  };

  const read = async (response, run) => {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      lines.forEach((line) => take(line, run));
    }
  };

  // Pages of HTML come from elsewhere: the login, a form that is too old, a proxy.
  const requireEvents = async (response) => {
    const type = response.headers.get("Content-Type") || "";
    if (type.includes("application/json")) {
      throw new Error((await response.json()).error.message);
    }
    if (!response.ok || !type.includes("text/event-stream")) {
      throw new Error(`The server refused this (${response.status}). Reload the page and try again.`);
    }
  };

  const ask = async (signal) => {
    const run = began();
    const response = await fetch(window.location.pathname, {
      method: "POST",
      body: new FormData(form),
      headers: { Accept: "text/event-stream" },
      signal,
    });
    await requireEvents(response);
    await read(response, run);
    figures.textContent = summary(run);
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const control = new AbortController();
    stop.onclick = () => control.abort();
    document.getElementById("try-hint")?.remove();
    answer.textContent = "";
    figures.textContent = "Waiting for the first token…";
    showError("");
    stop.hidden = false;
    send.disabled = true;
    try {
      await ask(control.signal);
    } catch (error) {
      figures.textContent = error.name === "AbortError" ? "Stopped." : "";
      showError(error.name === "AbortError" ? "" : error.message);
    }
    stop.hidden = true;
    send.disabled = false;
  });
})();
