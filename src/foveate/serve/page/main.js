// The page: somebody gives a video, the server answers, the parts of the page show it.

import * as answer from "./answer.js";
import { ask, download, predict, Refusal } from "./api.js";
import { closeCamera, Live, openCamera, record } from "./camera.js";
import { at, make, show } from "./dom.js";
import { legend } from "./marks.js";
import { Player } from "./player.js";
import { Timeline } from "./timeline.js";
import { bytes, percent, percentOf, short } from "./words.js";

const LONGEST_RECORDING_S = 30;
const HOPELESS = [400, 413, 415, 422]; // a file that is refused is refused again
const SETTLED_MS = 300; // after which a slider moved by keys is taken as let go

let models = [];
let limits = {};
let shown = null; // the entry of the history that is shown: file, name, model, window, budget, result
let repeat = null; // what a change of the settings does again
let running = new AbortController(); // of the question, the recording or the stream under way
const entries = [];

const timeline = new Timeline((seconds) => player.seek(seconds));
const player = new Player((time) => timeline.moves(time));

async function start() {
  try {
    ({ models, limits } = await ask("v1/models"));
    const { examples } = await ask("v1/examples");
    at("examples").append(...examples.map(exampleButton));
    show("examples", examples.length > 0);
  } catch (error) {
    fail(error, start);
    return;
  }
  at("model").append(...models.map(({ name, title }) => make("option", { value: name, textContent: title || name })));
  show("model-field", models.length > 1);
  show("settings");
  fitBudget();
}

const chosenModel = () => models.find(({ name }) => name === at("model").value);

function exampleButton({ title, name, url, model, window }) {
  const button = make("button", { type: "button", textContent: title || name });
  button.addEventListener("click", () => {
    const run = async () => {
      if (models.some((each) => each.name === model)) at("model").value = model;
      at("window").value = window ?? "";
      fitBudget();
      begin("Fetching the example");
      question(await download(url), title || name);
    };
    run().catch((error) => fail(error, run));
  });
  return button;
}

// --- asking

/** End what is under way, and say what begins. */
function begin(words) {
  running.abort();
  running = new AbortController();
  show("error", false);
  document.body.classList.add("asked");
  say(words);
  return running.signal;
}

function say(words, share = null) {
  show("status", words !== "");
  at("status-words").textContent = words;
  show("progress", share !== null);
  if (share !== null) at("progress").value = share;
}

/** Show an error in one line. again: what its button does; none without. */
function fail(error, again) {
  if (error.name === "AbortError") return;
  say("");
  at("error-words").textContent = error.message;
  at("again").onclick = again ?? null;
  show("again", Boolean(again));
  show("error");
  at("error").scrollIntoView({ block: "nearest" });
}

/** Ask about a file, as the settings say. */
function question(file, name) {
  const model = chosenModel();
  const budget = model.budget ? Number(at("budget").value) : null;
  repeat = () => question(file, name);
  inquire({ file, name, model, window: at("window").value, budget });
}

async function inquire(entry) {
  const { file, name, model, window, budget } = entry;
  const signal = begin("Sending");
  const before = shown;
  if (before?.file !== file) scrollTo({ top: 0 });
  player.open(file);
  if (limits.bytes && file.size > limits.bytes) {
    clear();
    fail(new Error(`${name}: has ${bytes(file.size)}, and this server takes ${bytes(limits.bytes)} (cut it, or choose a smaller one)`));
    return;
  }
  const facts = { model: model.name, top: 5 };
  if (window !== "") facts.window = window;
  if (budget !== null) facts.budget = budget;
  let grown = false;
  const listen = {
    sent: (share) => say(share < 1 ? `Sending ${bytes(file.size)}` : "Looking at the video", share < 1 ? share : null),
    waiting: (seconds) => say(`The server is busy: asking again in ${seconds} s`),
    again: () => timeline.clear(),
    window: (each) => {
      if (!grown) clear();
      grown = true;
      timeline.grows(each, player.duration);
      answer.soFar(each.predictions);
    },
  };
  try {
    entry.result = await predict(file, name, facts, listen, signal);
  } catch (error) {
    if (error.name !== "AbortError") clear();
    fail(error, HOPELESS.includes(error.status) ? null : () => inquire(entry));
    return;
  }
  say("");
  entries.unshift(entry);
  display(entry, before);
}

function clear() {
  shown = null;
  answer.clear();
  timeline.clear();
  player.clear();
  show("compared", false);
}

// --- showing

/** Show an entry. before: what was shown when it was asked. */
function display(entry, before = null) {
  shown = entry;
  repeat = () => question(entry.file, entry.name);
  player.open(entry.file);
  answer.shows(entry.result, entry.model);
  at("legend").textContent = legend(entry.result);
  timeline.shows(entry.result);
  player.shows(entry.result);
  const same = before?.file === entry.file && before.model === entry.model && before.window === entry.window;
  if (same && before.budget !== entry.budget) answer.compare(before, entry);
  else show("compared", false);
  at("history").replaceChildren(...entries.map(historyItem));
  show("past");
}

function historyItem(entry) {
  const { name, model, budget, result } = entry;
  const [best] = result.predictions;
  const spent = `${budget === null ? "" : `budget ${percentOf(budget)}, `}${short(result.cost.gmacs)} GMACs`;
  const words = [make("b", { textContent: best.label }), ` ${percent(best.score)} · ${name} · ${model.name} · ${spent}`];
  const button = make("button", { type: "button" }, ...words);
  if (entry === shown) button.setAttribute("aria-current", "true");
  button.addEventListener("click", () => {
    begin("");
    at("model").value = model.name;
    at("window").value = entry.window;
    fitBudget(budget);
    display(entry);
    at("answer").focus({ preventScroll: true });
    at("answer").scrollIntoView({ block: "start" });
  });
  return make("li", {}, button);
}

// --- settings

/** Show the slider if the model has a budget. value: where it stands; at the most without. */
function fitBudget(value = null) {
  const { budget } = chosenModel() ?? {};
  for (const id of ["budget-field", "budget-help"]) show(id, Boolean(budget));
  if (!budget) return;
  const least = Math.ceil(100 * budget.least - 1e-6) / 100; // steps are counted from here, and the most is one
  Object.assign(at("budget"), { min: least, max: budget.most });
  at("budget").value = value ?? budget.most;
  sayBudget();
}

function sayBudget() {
  const words = percentOf(Number(at("budget").value));
  at("budget-words").textContent = words;
  at("budget").setAttribute("aria-valuetext", words);
}

const askAgain = () => repeat?.();

// --- camera

async function withCamera(run) {
  const signal = begin("Opening the camera");
  let stream;
  try {
    stream = await openCamera();
  } catch (error) {
    fail(error, () => withCamera(run));
    return;
  }
  if (signal.aborted) return closeCamera(stream);
  say("");
  clear();
  player.close();
  at("camera-stop").focus();
  run(stream, signal);
}

async function recordOne(stream, signal) {
  const stop = new AbortController();
  at("camera-stop").onclick = () => stop.abort();
  signal.addEventListener("abort", () => stop.abort());
  const file = await record(stream, LONGEST_RECORDING_S, stop.signal);
  closeCamera(stream);
  if (!signal.aborted) question(file, `recording.${file.type.includes("mp4") ? "mp4" : "webm"}`);
}

function watch(stream, signal) {
  repeat = () => withCamera(watch);
  const live = new Live(chosenModel().name, (error) => {
    closeCamera(stream);
    if (error && !signal.aborted) fail(error, () => withCamera(watch));
  });
  at("camera-stop").onclick = () => {
    repeat = null;
    live.stop();
    at("live").focus();
  };
  signal.addEventListener("abort", () => live.stop());
}

// --- what people do

at("choose").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", () => {
  const [file] = at("file").files;
  if (file) question(file, file.name);
  at("file").value = ""; // so that the same file can be chosen again
});
at("record").addEventListener("click", () => withCamera(recordOne));
at("live").addEventListener("click", () => withCamera(watch));
at("cancel").addEventListener("click", () => {
  running.abort();
  say("");
});
at("model").addEventListener("change", () => (fitBudget(), askAgain()));
at("window").addEventListener("change", askAgain);
at("budget").addEventListener("input", sayBudget);
let settling;
at("budget").addEventListener("change", () => {
  clearTimeout(settling);
  settling = setTimeout(askAgain, SETTLED_MS);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) question(file, file.name);
  else fail(new Error("That was no file (drop a video file, not a link)"));
});

start();
