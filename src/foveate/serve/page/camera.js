// The camera: a video recorded to be asked about, or frames sent as they come, with labels as they come back.

import { connect } from "./api.js";
import { at, make, show } from "./dom.js";
import { drawBoxes, nearest } from "./marks.js";
import { milliseconds, percent, sentence, sureness } from "./words.js";

const UNANSWERED = 2; // frames under way, at most: more would only wait in line
const SPOKEN_MS = 3000; // between two labels for screen readers
const WHY = {
  NotAllowedError: "The camera is blocked (allow it for this page in the browser's address bar, then try again)",
  NotFoundError: "No camera was found (connect one, then try again, or choose a video)",
  NotReadableError: "The camera is in use by another program (close that, then try again)",
};

/** Open the camera and show it; an Error in words if that cannot be. */
export async function openCamera() {
  if (!navigator.mediaDevices) {
    throw new Error("The browser gives no camera to this address (open the page by https, or at localhost)");
  }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    show("camera");
    at("camera-video").srcObject = stream;
    await at("camera-video").play();
    return stream;
  } catch (error) {
    throw new Error(WHY[error.name] ?? `The camera cannot be used: ${error.message} (choose a video)`);
  }
}

export function closeCamera(stream) {
  for (const track of stream.getTracks()) track.stop();
  at("camera-video").srcObject = null;
  show("camera", false);
}

/** Record what the open camera shows until `stopped` aborts or so many seconds have gone. */
export function record(stream, seconds, stopped) {
  const { videoWidth, videoHeight } = at("camera-video");
  at("camera-video").parentElement.style.setProperty("--ratio", String(videoWidth / videoHeight));
  const recorder = new MediaRecorder(stream);
  const pieces = [];
  const start = performance.now();
  const tell = () => {
    const gone = (performance.now() - start) / 1000;
    at("camera-facts").textContent = `Recording: ${gone.toFixed(0)} of at most ${seconds.toFixed(0)} s`;
    if (gone >= seconds && recorder.state === "recording") recorder.stop();
  };
  tell();
  const timer = setInterval(tell, 250);
  stopped.addEventListener("abort", () => recorder.state === "recording" && recorder.stop(), { once: true });
  return new Promise((resolve) => {
    recorder.ondataavailable = ({ data }) => pieces.push(data);
    recorder.onstop = () => {
      clearInterval(timer);
      resolve(new Blob(pieces, { type: recorder.mimeType }));
    };
    recorder.start();
  });
}

/** Labels of what the open camera shows. */
export class Live {
  #video = at("camera-video");
  #socket;
  #pixels = null; // a canvas of the model's input size
  #side = 0;
  #timer = null;
  #underway = []; // times at which unanswered frames were taken, seconds
  #left = 0; // frames that were not sent
  #lost = 0; // frames that the server left out
  #timing = "Watching"; // until the first label
  #spoken = 0;

  /** ended: called once, with null or with an Error in words. */
  constructor(model, ended) {
    at("camera-video").parentElement.style.setProperty("--ratio", "1");
    at("camera-facts").textContent = "Connecting";
    this.#socket = connect(model);
    this.#socket.onmessage = ({ data }) => this.#heard(JSON.parse(data));
    this.#socket.onclose = ({ code, reason }) => {
      clearInterval(this.#timer);
      const words = reason || "The connection to the server is gone (try again)";
      ended(code === 1000 ? null : new Error(words));
    };
  }

  stop() {
    clearInterval(this.#timer);
    this.#socket.close(1000);
  }

  #heard(answer) {
    if (answer.error) return; // the reason follows as the connection closes
    if (answer.fps) this.#begin(answer);
    else this.#show(answer);
  }

  #begin({ fps, size }) {
    this.#side = size;
    const canvas = make("canvas", { width: size, height: size });
    this.#pixels = canvas.getContext("2d", { willReadFrequently: true });
    this.#timer = setInterval(() => this.#send(), 1000 / fps);
    at("camera-facts").textContent = this.#timing;
  }

  #send() {
    if (this.#underway.length >= UNANSWERED) {
      this.#left++;
      return;
    }
    const time = performance.now() / 1000;
    this.#underway.push(time);
    this.#socket.send(message(time, this.#grab(), this.#side));
  }

  // the short side resized to the model's, the centre cut out
  #grab() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    const short = Math.min(width, height);
    const corner = [(width - short) / 2, (height - short) / 2];
    this.#pixels.drawImage(this.#video, ...corner, short, short, 0, 0, this.#side, this.#side);
    return this.#pixels.getImageData(0, 0, this.#side, this.#side).data;
  }

  #show({ time_s, predictions, model_ms, boxes, dropped }) {
    this.#lost = Math.max(this.#lost, dropped ?? 0);
    this.#underway = this.#underway.filter((time) => time > time_s);
    if (predictions) {
      const latency = performance.now() - 1000 * time_s;
      this.#timing = `${milliseconds(latency)} from camera to label, of which ${milliseconds(model_ms)} in the model`;
      this.#mark(boxes ? nearest(boxes, time_s) : []);
      this.#label(predictions[0]);
    }
    at("camera-facts").textContent = `${this.#timing}; frames left out: ${this.#left + this.#lost}`;
  }

  #mark(boxes) {
    const canvas = at("camera-marks");
    const scale = window.devicePixelRatio;
    canvas.width = Math.round(canvas.clientWidth * scale);
    canvas.height = Math.round(canvas.clientHeight * scale);
    drawBoxes(canvas.getContext("2d"), boxes, canvas.width / this.#side, scale);
  }

  // Screen readers hear a new label, but not each of many a second.
  #label({ label, score }) {
    const answer = at("answer");
    const now = performance.now();
    const news = answer.dataset.label !== label && now - this.#spoken > SPOKEN_MS;
    answer.setAttribute("aria-live", news ? "polite" : "off");
    if (news) this.#spoken = now;
    answer.dataset.label = label;
    answer.replaceChildren(
      make("p", { className: "soft", textContent: "Now" }),
      make("p", { className: "label", textContent: label }),
      make("p", { className: "sure", textContent: `${sentence(sureness(score))}: ${percent(score)}` }),
    );
  }
}

/** Bytes of a frame: its time as a float64, then RGB without the fourth channel of a canvas. */
function message(time, rgba, side) {
  const buffer = new ArrayBuffer(8 + 3 * side * side);
  new DataView(buffer).setFloat64(0, time, true);
  const rgb = new Uint8Array(buffer, 8);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  return buffer;
}
