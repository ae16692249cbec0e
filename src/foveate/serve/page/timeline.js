// Labels over time as a band of buttons, the frames that the model read as ticks below, and a head that runs.

import { at, make, show } from "./dom.js";
import { badge, isEmpty } from "./marks.js";
import { clock, percent } from "./words.js";

const COLOURS = 8; // of style.css
const SVG = "http://www.w3.org/2000/svg";

export class Timeline {
  #segments = [];
  #result = null;
  #duration = 1;
  #seek;

  /** seek: called with the seconds that somebody asks for. */
  constructor(seek) {
    this.#seek = seek;
    at("line").addEventListener("click", (event) => this.#clicked(event));
    at("segments").addEventListener("keydown", (event) => this.#pressed(event));
  }

  clear() {
    this.#result = null;
    this.#segments = [];
    show("time", false);
  }

  /** One more window of a video that is still being answered. duration: as far as the browser knows it. */
  grows({ start_s, end_s, predictions }, duration) {
    const last = this.#segments.at(-1);
    const [{ label, index, score }] = predictions;
    if (last?.index === index) {
      last.score = (last.score * last.windows + score) / (last.windows + 1);
      Object.assign(last, { end_s, windows: last.windows + 1 });
    } else {
      this.#segments.push({ start_s, end_s, label, index, score, windows: 1 });
    }
    this.#band(Math.max(duration, end_s));
    at("lanes").replaceChildren();
  }

  /** The labels of a result, and the frames that its model read. */
  shows(result) {
    this.#result = result;
    this.#segments = result.segments;
    this.#band(Math.max(result.duration_s, ...result.segments.map((each) => each.end_s)));
    at("lanes").replaceChildren(...lanesOf(result).map((lane) => this.#lane(lane)));
  }

  /** Put the head at a time, and say what is there. */
  moves(time) {
    at("head").style.left = `${Math.min(100, (100 * time) / this.#duration)}%`;
    const current = this.#at(time);
    for (const [place, button] of [...at("segments").children].entries()) {
      if (place === current) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    const segment = this.#segments[current];
    if (!segment) return;
    const chosen = this.#result && badge(this.#result, time);
    const words = `${segment.label}, ${percent(segment.score)}${chosen ? `; ${chosen}` : ""}`;
    at("now").textContent = `At ${clock(time)}: ${words}`;
  }

  #at(time) {
    const place = this.#segments.findLastIndex((each) => each.start_s <= time + 1e-3);
    return Math.max(place, 0);
  }

  #band(duration) {
    this.#duration = duration || 1;
    const colours = new Map();
    for (const { label } of this.#segments) {
      if (!colours.has(label)) colours.set(label, `colour${colours.size % COLOURS}`);
    }
    const buttons = this.#segments.map((segment, place) => this.#button(segment, place, colours));
    at("segments").replaceChildren(...buttons);
    const several = colours.size > 1 ? [...colours] : [];
    at("keys").replaceChildren(...several.map(([label, colour]) => this.#key(label, colour)));
    show("time");
  }

  #button({ start_s, end_s, label, score }, place, colours) {
    const times = `${clock(start_s)} to ${clock(end_s)}`;
    const name = `${label}, ${times}, ${percent(score)}`;
    const facts = { type: "button", className: colours.get(label), textContent: label, title: name, "aria-label": name };
    const button = make("button", { ...facts, tabIndex: place ? -1 : 0 }); // one stop of the tab key for all
    button.style.left = `${(100 * start_s) / this.#duration}%`;
    button.style.width = `${(100 * (end_s - start_s)) / this.#duration}%`;
    button.addEventListener("click", (event) => event.detail === 0 && this.#seek(start_s)); // of the keyboard
    return button;
  }

  #key(label, colour) {
    const own = this.#segments.filter((each) => each.label === label);
    const times = own.slice(0, 4).map((each) => `${clock(each.start_s)} to ${clock(each.end_s)}`);
    if (own.length > times.length) times.push(`${own.length - times.length} more`);
    const swatch = make("i", { className: colour, "aria-hidden": "true" });
    return make("li", {}, swatch, make("b", { textContent: label }), ` ${times.join(", ")}`);
  }

  #clicked(event) {
    if (event.detail === 0) return; // a button pressed by key: it goes to its start
    const { left, width } = at("line").getBoundingClientRect();
    this.#seek(Math.min(Math.max((event.clientX - left) / width, 0), 0.999) * this.#duration);
  }

  #pressed(event) {
    const buttons = [...at("segments").children];
    const here = buttons.indexOf(event.target);
    const steps = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: buttons.length - 1 };
    const next = steps[event.key];
    if (next === undefined) return;
    event.preventDefault();
    if (!buttons[next]) return;
    buttons[here].tabIndex = -1;
    buttons[next].tabIndex = 0;
    buttons[next].focus();
    this.#seek(this.#segments[next].start_s);
  }

  #lane({ name, kind, times }) {
    const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS(SVG, tag));
    const places = times.map((time) => ((1000 * time) / this.#duration).toFixed(1));
    path.setAttribute("d", places.map((place) => `M${place} 0V10`).join(""));
    path.setAttribute("class", kind);
    const facts = { viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" };
    for (const [key, value] of Object.entries(facts)) svg.setAttribute(key, value);
    svg.append(path);
    return make("div", { className: "lane" }, make("span", { textContent: `${name}: ${times.length}` }), svg);
  }
}

/** Rows of ticks: name, class in style.css, times in seconds. */
function lanesOf({ boxes, sizes, clusters, pathways, fps }) {
  const lanes = [];
  if (boxes) {
    const skipped = boxes.filter((each) => !each.looked);
    lanes.push({ name: "looked closely", kind: "strong", times: boxes.filter((each) => each.looked).map(timeOf) });
    lanes.push({ name: "skipped", kind: "weak", times: skipped.filter((each) => !isEmpty(each)).map(timeOf) });
    lanes.push({ name: "not read", kind: "weak", times: skipped.filter(isEmpty).map(timeOf) });
  }
  for (const size of [...new Set(sizes?.map((each) => each.size))].sort((a, b) => b - a)) {
    const times = sizes.filter((each) => each.size === size).map(timeOf);
    lanes.push({ name: size ? `read at ${size} px` : "skipped", kind: size ? "strong" : "weak", times });
  }
  if (clusters) lanes.push({ name: "clusters", kind: "strong", times: clusters.map((each) => each.start_s) });
  for (const [name, frames] of Object.entries(pathways ?? {})) {
    const times = frames.map((frame) => frame / fps);
    lanes.push({ name: `frames of ${name}`, kind: /fast/i.test(name) ? "other" : "strong", times });
  }
  return lanes.filter((lane) => lane.times.length);
}

const timeOf = (mark) => mark.time_s;
