// What a model chose, drawn over the video at a time: patches, sizes, clusters, pathways.
// Between two frames that it read, what it chose for the nearer one is shown.

const GREEN = "#3ce65a";
const GREY = "#d0d0d0";
const BORDERS = ["#3ce65a", "#ffb000", "#64b5ff", "#ff6fb5", "#c9a2ff", "#ffe14d"];

/** Draw on a canvas what was chosen at `time` seconds. scale: pixels of the canvas for one of the page. */
export function draw(canvas, result, time, scale) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (result?.boxes) drawBoxes(context, nearest(result.boxes, time), canvas.width / result.width, scale);
  const words = badge(result, time);
  if (result?.clusters) drawBorder(context, clusterAt(result.clusters, time), scale);
  if (result?.sizes && words === "skipped") dim(context);
  if (words) drawBadge(context, words, scale);
}

/** What was chosen at a time, in words; empty if nothing was. */
export function badge(result, time) {
  if (result?.sizes) {
    const { size } = nearest(result.sizes, time)[0];
    return size ? `read at ${size} px` : "skipped";
  }
  if (result?.clusters) {
    const { cluster, frames } = clusterAt(result.clusters, time);
    const last = Math.max(...result.clusters.map((each) => each.cluster));
    return `cluster ${cluster + 1} of ${last + 1}: ${frames} frame${frames === 1 ? "" : "s"} as one`;
  }
  if (result?.pathways) {
    const readers = pathwaysAt(result, time);
    return readers.length ? `read by ${readers.join(" and ")}` : "";
  }
  if (result?.boxes) {
    const boxes = nearest(result.boxes, time);
    if (boxes.some((each) => each.looked)) return "";
    return boxes.every(isEmpty) ? "not read: it was sure already" : "skipped";
  }
  return "";
}

/** Whether a frame has no patch, as the model had answered before it. */
export const isEmpty = ({ box: [left, top, right, bottom] }) => right <= left || bottom <= top;

/** All marks of the frame whose time is nearest; marks have `time_s`, in any order. */
export function nearest(marks, time) {
  let best = marks[0];
  for (const mark of marks) {
    if (Math.abs(mark.time_s - time) < Math.abs(best.time_s - time)) best = mark;
  }
  return marks.filter((mark) => mark.frame === best.frame);
}

function clusterAt(clusters, time) {
  return clusters.find((each) => time < each.end_s) ?? clusters[clusters.length - 1];
}

// the pathways that read the very frame that is shown
function pathwaysAt({ pathways, fps }, time) {
  const frame = Math.floor(time * fps + 1e-3);
  return Object.keys(pathways).filter((name) => pathways[name].includes(frame));
}

/** Boxes [left, top, right, bottom] in pixels that are `unit` pixels of the canvas wide. */
export function drawBoxes(context, boxes, unit, scale) {
  for (const { box, looked } of boxes.filter((each) => !isEmpty(each))) {
    const [left, top, right, bottom] = box.map((edge) => edge * unit);
    for (const [colour, width] of [["#000", looked ? 5 : 4], [looked ? GREEN : GREY, looked ? 3 : 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * scale;
      context.setLineDash(looked ? [] : [7 * scale, 6 * scale]);
      context.strokeRect(left, top, right - left, bottom - top);
    }
  }
  context.setLineDash([]);
}

function drawBorder(context, { cluster }, scale) {
  const { width, height } = context.canvas;
  context.strokeStyle = BORDERS[cluster % BORDERS.length];
  context.lineWidth = 8 * scale;
  context.strokeRect(0, 0, width, height);
}

function dim(context) {
  context.fillStyle = "rgb(0 0 0 / 45%)";
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
}

function drawBadge(context, words, scale) {
  context.font = `600 ${14 * scale}px system-ui, sans-serif`;
  context.fillStyle = "rgb(0 0 0 / 80%)";
  context.fillRect(8 * scale, 8 * scale, context.measureText(words).width + 16 * scale, 26 * scale);
  context.fillStyle = "#fff";
  context.fillText(words, 16 * scale, 26 * scale);
}

const BETWEEN = "Between the frames that it read, the nearest of them counts.";

/** What the marks mean. */
export function legend({ boxes, sizes, clusters, pathways }) {
  if (boxes) {
    const skipped = boxes.filter((each) => !each.looked);
    const dashed = skipped.every(isEmpty) ? "" : " Dashed: the patch of a frame that it skipped.";
    const early = skipped.some(isEmpty) ? " No box: it was sure before it came to that frame." : "";
    return `Green box: the patch that the model looked at closely.${dashed}${early} ${BETWEEN}`;
  }
  if (sizes) return `The model chose how finely to read each frame, or to skip it. ${BETWEEN}`;
  if (clusters) return "The model took similar neighbouring frames as one: a cluster. Each has a border of its own colour.";
  if (pathways) return "Ticks below: the frames that each pathway of the model read.";
  return "This model reads whole frames: it chose none of them, and no part of them.";
}
