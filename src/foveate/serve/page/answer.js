// The answer in large letters, the likeliest classes as bars, and what it cost.

import { at, make, show } from "./dom.js";
import { counted, milliseconds, percent, percentOf, sentence, short, sureness } from "./words.js";

const MOST_IN_ORDER = 8; // labels named in the answer; the band below has all

/** Forget what is shown. */
export function clear() {
  at("answer").replaceChildren();
  for (const id of ["others", "cost"]) show(id, false);
}

/** The likeliest label until now, of a video that is still being answered. */
export function soFar([best]) {
  if (at("answer").dataset.label === best.label && at("answer").children.length) return; // to say it once
  headline("So far", best.label, "the rest of the video is being looked at");
}

/** A result, and the model that gave it. */
export function shows(result, model) {
  const [best] = result.predictions;
  const order = inOrder(result.segments);
  const said = order ? "Over the whole video" : "The answer";
  headline(said, best.label, `${sentence(sureness(best.score))}: ${percent(best.score)}`);
  if (order) at("answer").append(make("p", { textContent: order }));
  if (result.status === "partial") at("answer").append(make("p", { className: "notice", textContent: damage(result) }));
  at("top").replaceChildren(...result.predictions.map(bar));
  at("knows").textContent = knows(model);
  at("spent").textContent = spent(result.cost);
  at("parts").textContent = parts(result.timing_ms);
  for (const id of ["others", "cost"]) show(id);
}

function knows({ name, trained_on, classes }) {
  const learnt = trained_on ? ` (trained on ${trained_on})` : "";
  return `${name} knows ${counted(classes, "label")}${learnt} and always answers with one of them.`;
}

function headline(before, label, sure) {
  const answer = at("answer");
  answer.dataset.label = label;
  answer.removeAttribute("aria-live"); // which the camera sets
  answer.replaceChildren(
    make("p", { className: "soft", textContent: before }),
    make("p", { className: "label", textContent: label }),
    make("p", { className: "sure", textContent: sure }),
  );
}

// the labels over time, where they are several
function inOrder(segments) {
  if (segments.length < 2) return "";
  const labels = segments.slice(0, MOST_IN_ORDER).map((each) => each.label);
  return `One after the other: ${labels.join(", ")}${segments.length > MOST_IN_ORDER ? ", …" : ""}.`;
}

function damage({ cause, hint }) {
  return `The file is damaged (${cause}): the answer is about what could be read.${hint ? ` ${sentence(hint)}.` : ""}`;
}

function bar({ label, score }) {
  const fill = make("i");
  fill.style.width = `${100 * score}%`;
  const track = make("span", { className: "bar", "aria-hidden": "true" }, fill);
  return make("li", {}, make("span", { textContent: label }), track, make("span", { className: "number", textContent: percent(score) }));
}

function spent({ gmacs, frames_used, frames_decoded, patches }) {
  const looked = patches ? `, and closely at ${counted(patches, "patch", "patches")}` : "";
  const frames = `looked at ${frames_used} of ${counted(frames_decoded, "decoded frame")}`;
  return `${short(gmacs)} GMACs (billions of multiply-adds): it ${frames}${looked}.`;
}

function parts(timing) {
  const all = Object.values(timing).reduce((sum, ms) => sum + ms, 0);
  const each = Object.entries(timing).map(([name, ms]) => `${name} ${milliseconds(ms)}`);
  return `${milliseconds(all)} in all: ${each.join(", ")}.`;
}

/** A table of two questions about one video. */
export function compare(before, now) {
  const columns = ["", "budget", "answer", "GMACs", "time"];
  const rows = [["before", before], ["now", now]].map(([name, { budget, result }]) => {
    const [best] = result.predictions;
    const all = Object.values(result.timing_ms).reduce((sum, ms) => sum + ms, 0);
    return [name, percentOf(budget), `${best.label}, ${percent(best.score)}`, short(result.cost.gmacs), milliseconds(all)];
  });
  const head = make("tr", {}, ...columns.map((text) => make("th", { scope: "col", textContent: text })));
  const lines = rows.map(([name, ...cells]) => {
    const first = make("th", { scope: "row", textContent: name });
    return make("tr", {}, first, ...cells.map((text) => make("td", { textContent: text })));
  });
  at("compared").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines)));
  show("compared");
}
