// What the server is asked: models, examples, predictions. Errors are of one kind, `Refusal`.

import { at } from "./dom.js";

let token = "";

/** An answer that is none. status: of HTTP, 0 if nothing came. wait: seconds after which to ask again. */
export class Refusal extends Error {
  constructor(status, error = {}, wait = null) {
    super(line(status, error));
    Object.assign(this, { status, wait });
  }
}

const OWN = {
  0: "The server cannot be reached (is `foveate serve` still running, and the network there? then try again)",
  413: "The file is too large for this server (cut it, or choose a smaller one)",
  503: "The server is not taking videos now (wait a little, then try again)",
  504: "The server took too long (try again, or choose a shorter video)",
};

function line(status, { subject, cause, hint }) {
  if (!cause) return OWN[status] ?? `The server answered with an error, ${status} (try again)`;
  return (subject ? `${subject}: ` : "") + cause + (hint ? ` (${hint})` : "");
}

function refusal(status, text, wait) {
  let error;
  try {
    ({ error } = JSON.parse(text));
  } catch {
    // of a proxy, say
  }
  const seconds = Number.parseFloat(wait);
  return new Refusal(status, error, Number.isFinite(seconds) ? Math.max(seconds, 0) : null);
}

/** JSON from an address of the server. */
export const ask = (address) => withToken(async () => (await fetched(address)).json());

/** A file from an address of the server. */
export const download = (address) => withToken(async () => (await fetched(address)).blob());

async function fetched(address) {
  let answer;
  try {
    answer = await fetch(address, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  } catch {
    throw new Refusal(0);
  }
  if (!answer.ok) throw refusal(answer.status, await answer.text(), answer.headers.get("Retry-After"));
  return answer;
}

/** The prediction for a file.
 *
 * facts: parts of the query. listen: what is called meanwhile, `sent(share)`, `window(answer)`, `again()` if
 * the windows begin anew, and `waiting(seconds)` each second before the file is sent again to a busy server.
 */
export async function predict(file, name, facts, listen, signal) {
  for (;;) {
    try {
      return await withToken(() => send(file, name, facts, listen, signal));
    } catch (error) {
      if (error.status !== 429 || error.wait === null) throw error;
      for (let left = Math.ceil(error.wait); left > 0; left--) {
        listen.waiting(left);
        await pause(1000, signal);
      }
    }
  }
}

// XMLHttpRequest, as fetch does not tell how much of a body is sent.
function send(file, name, facts, listen, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `v1/predict?${new URLSearchParams(facts)}`);
    request.setRequestHeader("Accept", "application/x-ndjson");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("X-Filename", encodeURIComponent(name.toWellFormed?.() ?? name));
    if (token) request.setRequestHeader("Authorization", `Bearer ${token}`);
    const events = new Lines();
    request.upload.onprogress = (event) => listen.sent(event.loaded / event.total);
    request.upload.onload = () => listen.sent(1);
    const hear = () => {
      for (const event of events.of(request.responseText)) {
        if (event.event === "window") listen.window(event);
        if (event.event === "again") listen.again();
        if (event.event === "result") resolve(event);
        if (event.event === "error") reject(new Refusal(event.status, event.error, event.retry_after ?? null));
      }
    };
    request.onprogress = () => request.status === 200 && hear();
    request.onload = () => {
      if (request.status !== 200) {
        reject(refusal(request.status, request.responseText, request.getResponseHeader("Retry-After")));
        return;
      }
      hear();
      reject(new Refusal(0)); // the last line never came
    };
    request.onerror = () => reject(new Refusal(0));
    const stop = () => request.abort();
    signal.addEventListener("abort", stop, { once: true });
    request.onabort = () => reject(signal.reason);
    request.onloadend = () => signal.removeEventListener("abort", stop);
    request.send(file);
  });
}

/** The whole lines of a text that grows, parsed, each once. */
class Lines {
  #read = 0;

  *of(text) {
    for (let end = text.indexOf("\n", this.#read); end >= 0; end = text.indexOf("\n", this.#read)) {
      const words = text.slice(this.#read, end);
      this.#read = end + 1;
      if (words.trim()) yield JSON.parse(words);
    }
  }
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

/** A connection for frames of the camera. */
export function connect(model) {
  const address = new URL(`v1/live?${new URLSearchParams({ model })}`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address, token ? ["foveate", `token.${token}`] : ["foveate"]);
  socket.binaryType = "arraybuffer";
  return socket;
}

async function withToken(run) {
  for (let asked = false; ; asked = true) {
    try {
      return await run();
    } catch (error) {
      if (error.status !== 401) throw error;
      token = await askToken(asked);
      if (!token) throw error;
    }
  }
}

function askToken(wrong) {
  const dialog = at("token");
  at("token-words").textContent = wrong ? "That was not it. Whoever started it has it." : "Whoever started it has it.";
  at("token-text").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const closed = () => resolve(dialog.returnValue === "ok" ? at("token-text").value.trim() : "");
    dialog.addEventListener("close", closed, { once: true });
  });
}
