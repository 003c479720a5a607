// How far things are: labels, accuracy with its interval, the curve over rounds, who labels and how they agree.

import { fit } from "./volume.js";

const byId = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)}`;
const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

export const showProgress = (state) => {
  byId("set").textContent = state.set;
  document.title = `${state.labeled} labeled · ${state.set}`;
  byId("labeled").textContent = state.labeled.toLocaleString("en");
  byId("labeled-of").textContent = `labeled of ${state.particles.toLocaleString("en")}`;
  const last = state.curve.at(-1);
  byId("accuracy").textContent = last
    ? `guessed right: ${percent(last.share)} % (${percent(last.low)}–${percent(last.high)}) of the last ${last.count}`
    : "no guesses yet";
  drawCurve(byId("curve"), state.curve);
  const pairs = state.agreements.map(({ first, second, kappa, count: both }) =>
    `${first} and ${second}: κ ${kappa === null ? "not defined" : kappa.toFixed(2)} of ${both}`);
  const differing = state.disagreements ? [count(state.disagreements, "disagreement")] : [];
  byId("agreement").textContent = [...pairs.slice(0, 2), ...differing].join(" · ") || count(state.mine, "label") + " of yours";
  byId("agreement").title = pairs.join("\n");
};

/** The share over labels, with its interval as a band; 0 is the lower edge and 1 the upper one. */
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
  const told = curve.map((point) => `${point.labels} labels ${percent(point.share)} %`).slice(-6).join(", ");
  canvas.setAttribute("aria-label", `Share of guesses that were right: ${told}`);
};

export const showSaved = (waiting) => {
  const place = byId("saved");
  place.textContent = waiting ? `${waiting} not saved yet` : "all saved";
  place.className = waiting ? "waiting" : "";
};

export const announce = (sentence) => { byId("live").textContent = sentence; };

export const showTrouble = (sentence) => {
  const place = byId("trouble");
  place.textContent = sentence || "";
  place.hidden = !sentence;
};
