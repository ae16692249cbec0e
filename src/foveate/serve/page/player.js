// The user's own file in a video element, and over it, in step, what the model chose.
// A format that the browser cannot play gets an empty stage, on which a time can be chosen all the same.

import { at, show, stillWanted } from "./dom.js";
import { draw } from "./marks.js";

export class Player {
  #video = at("player");
  #stage = at("stage");
  #canvas = at("marks");
  #result = null;
  #file = null;
  #address = "";
  #time = 0; // of a file that the browser cannot play
  #plays = true;
  #onTime;

  /** onTime: called with the seconds whenever they change. */
  constructor(onTime) {
    this.#onTime = onTime;
    const video = this.#video;
    video.addEventListener("loadedmetadata", () => this.#known());
    video.addEventListener("error", () => this.#address && this.#failed());
    for (const event of ["seeked", "loadeddata", "pause"]) video.addEventListener(event, () => this.#moved());
    video.addEventListener("play", () => this.#follow());
    new ResizeObserver(() => this.#moved()).observe(this.#canvas);
  }

  get time() {
    return this.#plays ? this.#video.currentTime : this.#time;
  }

  /** Length in seconds; 0 if the browser does not know. */
  get duration() {
    return Number.isFinite(this.#video.duration) ? this.#video.duration : 0;
  }

  open(file) {
    show("video");
    if (file === this.#file) return;
    this.#file = file;
    URL.revokeObjectURL(this.#address);
    this.#address = URL.createObjectURL(file);
    this.#time = 0;
    this.#plays = true;
    show("unplayable", false);
    this.#video.hidden = false;
    this.#video.src = this.#address;
    this.clear();
  }

  /** Forget what was chosen. */
  clear() {
    this.#result = null;
    at("legend").textContent = "";
    this.#moved();
  }

  close() {
    this.#video.pause();
    show("video", false);
  }

  /** Show what was chosen, from the first frame on. */
  shows(result) {
    this.#result = result;
    if (!this.#plays) this.#failed();
    else if (!stillWanted()) this.#video.play().catch(() => {}); // a browser may want a click first
    this.#moved();
  }

  seek(seconds) {
    this.#time = seconds;
    if (this.#plays) this.#video.currentTime = seconds;
    else this.#moved();
  }

  #known() {
    const { videoWidth, videoHeight, duration } = this.#video;
    if (!videoWidth) this.#failed(); // sound alone, as far as the browser can tell
    else this.#shape(videoWidth, videoHeight);
    if (duration === Infinity) this.#measure();
  }

  // A recording of the browser does not say how long it is until its end is asked for.
  #measure() {
    const back = () => Number.isFinite(this.#video.duration) && (this.#video.currentTime = 0);
    this.#video.addEventListener("durationchange", back, { once: true });
    this.#video.currentTime = 1e7;
  }

  // Without an answer there is nothing to show of a file that cannot be played.
  #failed() {
    this.#plays = false;
    this.#video.hidden = true;
    show("video", this.#result !== null);
    show("unplayable", this.#result !== null);
    if (this.#result) this.#shape(this.#result.width, this.#result.height);
    this.#moved();
  }

  #shape(width, height) {
    if (width && height) this.#stage.style.setProperty("--ratio", String(width / height));
  }

  #follow() {
    const step = (_, frame) => {
      this.#moved(frame?.mediaTime);
      if (!this.#video.paused) next(step);
    };
    const video = this.#video;
    const next = video.requestVideoFrameCallback?.bind(video) ?? requestAnimationFrame;
    next(step);
  }

  #moved(time = this.time) {
    const scale = window.devicePixelRatio;
    this.#canvas.width = Math.round(this.#canvas.clientWidth * scale);
    this.#canvas.height = Math.round(this.#canvas.clientHeight * scale);
    draw(this.#canvas, this.#result, time, scale);
    this.#canvas.dataset.time = time.toFixed(3);
    this.#onTime(time);
  }
}
