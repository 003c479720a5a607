// Progress: labels, accuracy with its interval and curve, annotators and their agreement.

import { fit } from "./volume.js";

const byId = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)}`;
const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

export const showProgress = (state) => {
  byId("set").textContent = state.set;
  document.title = `${state.labeled} labeled · ${state.set}`;
  byId("labeled").textContent = state.labeled.toLocaleString("en");
  byId("labeled-of").textContent = `labeled of ${state.particles.toLocaleString("en")}`;
  const last = state.accuracy_curve.at(-1);
  byId("accuracy").textContent = last
    ? `predicted correctly: ${percent(last.share)} % (${percent(last.low)}–${percent(last.high)}) of the last ${last.count}`
    : "no predictions yet";
  drawCurve(byId("curve"), state.accuracy_curve);
  const pairs = state.agreements.map(({ first, second, kappa, count: both }) =>
    `${first} and ${second}: κ ${kappa === null ? "not defined" : kappa.toFixed(2)} of ${both}`);
  const differing = state.disagreements ? [count(state.disagreements, "disagreement")] : [];
  byId("agreement").textContent = [...pairs.slice(0, 2), ...differing].join(" · ") || count(state.own_labels, "label") + " of yours";
  byId("agreement").title = pairs.join("\n");
};

/** Draw the accuracy over the number of labels with its interval as a band, from 0 to 1. */
export const drawCurve = (canvas, curve) => {
  canvas.hidden = curve.length < 2;
  if (canvas.hidden) return;
  const ratio = fit(canvas), context = canvas.getContext("2d"), style = getComputedStyle(canvas);
  const { width, height } = canvas, pad = 4 * ratio, first = curve[0].labels, last = curve.at(-1).labels;
  const x = (labels) => pad + (width - 2 * pad) * (labels - first) / Math.max(last - first, 1);
  const y = (share) => height - pad - (height - 2 * pad) * share;
  context.clearRect(0, 0, width, height);
  context.fillStyle = context.strokeStyle = style.getPropertyValue("--accent");
  context.globalAlpha = 0.18;
  context.beginPath();
  for (const point of curve) context.lineTo(x(point.labels), y(point.high));
  for (const point of [...curve].reverse()) context.lineTo(x(point.labels), y(point.low));
  context.fill();
  context.globalAlpha = 1;
  context.lineWidth = 2 * ratio;
  context.lineJoin = "round";
  context.beginPath();
  for (const point of curve) context.lineTo(x(point.labels), y(point.share));
  context.stroke();
  context.beginPath();
  context.arc(x(last), y(curve.at(-1).share), 3 * ratio, 0, 2 * Math.PI);
  context.fill();
  const points = curve.map((point) => `${point.labels} labels ${percent(point.share)} %`).slice(-6).join(", ");
  canvas.setAttribute("aria-label", `Accuracy of the predictions: ${points}`);
};

export const showSaved = (waiting) => {
  const element = byId("saved");
  element.textContent = waiting ? `${waiting} not saved yet` : "all saved";
  element.className = waiting ? "waiting" : "";
};

export const announce = (sentence) => { byId("live").textContent = sentence; };

export const showFault = (sentence) => {
  const element = byId("fault");
  element.textContent = sentence || "";
  element.hidden = !sentence;
};
