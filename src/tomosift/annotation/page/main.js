// The page: shows one particle after the other and sends an answer for each.

import { ParticleMap, mark } from "./map.js";
import { showClasses, showExamples, showPredictions, colorOf } from "./palette.js";
import { enterClass, findParticle, confirmLasso, isOpen, prepareDialogs, showFinish } from "./panels.js";
import { announce, showProgress, showSaved, showFault } from "./progress.js";
import { Queue } from "./queue.js";
import { Rotating } from "./rotating.js";
import { getJson, getPicture, Outbox } from "./server.js";
import { Viewer } from "./viewer.js";

const NAME = "tomosift-annotator", POLL_SECONDS = 2;
const byId = (id) => document.getElementById(id);

let state = null, mapRound = -1, contextOf = -1, shownClasses = "";
const history = []; // answers that can be undone, the newest last
const viewer = new Viewer(), rotating = new Rotating(byId("rotating"));
const annotator = () => byId("annotator").value.trim() || "me";
const outbox = new Outbox((waiting) => { showSaved(waiting); if (!waiting) updateState(); }, showFault);
const queue = new Queue(annotator, () => outbox.rows, () => viewer.sigma, (wasEmpty) => { if (wasEmpty) show(); else showAside(); });
const map = new ParticleMap(byId("map"), byId("map-detail"), confirmRows, goTo);

// --- showing ---------------------------------------------------------------------------------------------------------

function show() {
  const item = queue.current;
  if (!item) {
    byId("particle").textContent = queue.exhausted ? "All particles are answered" : "Waiting for the next particle";
    for (const id of ["position", "reason"]) byId(id).textContent = "";
    showAside();
    return;
  }
  const request = queue.fetchVolume(item.row);
  if (request.volume) draw(item, request.volume);
  else request.then((volume) => { if (queue.current === item) draw(item, volume); }, () => showFault("a subtomogram could not be read; the page tries again"));
}

function draw(item, volume) {
  viewer.show(volume);
  rotating.show(volume);
  const heading = byId("particle");
  heading.textContent = `Particle ${(item.row + 1).toLocaleString("en")}`;
  const at = item.position_zyx_angstrom;
  byId("position").textContent = item.tomogram + (at ? ` at x ${at[2]}, y ${at[1]}, z ${at[0]} Å` : "");
  byId("reason").textContent = item.reason;
  showAside();
  map.mark(item.row);
  showContext(item.row);
  heading.dataset.row = item.row; // last: when it changes, the pictures of that row are drawn
}

function showAside() {
  const classes = state ? state.classes : [];
  showPredictions(byId("predictions"), queue.current, classes, state && state.learning);
  showExamples(byId("examples"), queue.current, classes, queue);
}

async function showContext(row) {
  const figure = byId("context"), picture = byId("context-picture");
  if (!state || !state.has_context) return;
  contextOf = row;
  try {
    const { address, headers } = await getPicture(`/api/context/${row}`);
    if (contextOf !== row) { URL.revokeObjectURL(address); return; }
    URL.revokeObjectURL(picture.src);
    picture.src = address;
    const [left, top, width] = headers.get("X-Tomosift-Mark").split(" ").map((share) => `${100 * Number(share)}%`);
    Object.assign(byId("context-mark").style, { left, top, width });
    figure.hidden = false;
  } catch {
    figure.hidden = true; // this tomogram does not exist any more
  }
}

function showState() {
  showProgress(state);
  viewer.spacing = state.voxel_spacing_angstrom;
  const classes = JSON.stringify(state.classes);
  if (classes !== shownClasses) showClasses(byId("palette"), state.classes, answer);
  shownClasses = classes;
  if (!state.classes.length) byId("palette").textContent = "No class yet: N adds the first.";
  const { learning } = state;
  byId("map-note").textContent = learning.has_map
    ? "Similar particles lie close together. Draw around some to label them at once."
    : learning.failure ? "No map, because learning stopped." : `Drawn once all particles are embedded: ${learning.done.toLocaleString("en")} of ${learning.total.toLocaleString("en")}.`;
  if (!byId("annotator").value) byId("annotator").value = sessionStorage.getItem(NAME) || state.annotator;
  showFault(learning.failure && `Learning stopped, labels are still accepted: ${learning.failure}`);
  byId("legend").replaceChildren(...state.classes.map((one, k) => {
    const line = document.createElement("li"), sign = document.createElement("canvas");
    sign.width = sign.height = 24;
    const context = sign.getContext("2d");
    context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(colorOf(one.color).slice(4, -1));
    mark(context, k % 4, 12, 12, 7);
    line.append(sign, one.name);
    return line;
  }));
}

// --- answering -------------------------------------------------------------------------------------------------------

function answer(kind, name) {
  const item = queue.current;
  if (!item || Number(byId("particle").dataset.row) !== item.row) return; // only a displayed particle can be answered
  if (!(kind === "skip" && item.own_label)) {
    outbox.send("/api/label", { annotator: annotator(), row: item.row, kind, class_name: name });
    history.push({ item });
    map.setLabel(item.row, kind === "junk" ? "junk" : name);
  }
  const answered = { label: `Labeled ${name}`, junk: "Junk", unsure: "Unsure", skip: "Skipped" }[kind];
  queue.advance();
  show();
  announce(`${answered}. ${queue.current ? `Particle ${queue.current.row + 1}` : "No further particle"}`);
}

function undo() {
  const last = history.pop();
  outbox.send("/api/undo", { annotator: annotator() }, ({ rows }) => {
    if (!rows.length) announce("There is nothing to undo");
    else if (!last && rows.length === 1) goTo(rows[0]);
    reloadMap();
  });
  if (last && last.item) {
    queue.putFirst(last.item);
    show();
    announce(`Undone. Particle ${last.item.row + 1}`);
  } else if (last) announce(`Undone: ${last.rows.length} labels`);
}

function confirmRows(rows) {
  const clear = () => { map.clearSelection(); };
  confirmLasso(rows, state.classes, queue, (kind, name) => {
    outbox.send("/api/lasso", { annotator: annotator(), rows, kind, class_name: name }, reloadMap);
    history.push({ rows });
    announce(`Labeled ${rows.length} particles ${name || kind}`);
    const labeled = new Set(rows);
    queue.items = queue.items.filter((item) => !labeled.has(item.row));
    for (const row of rows) queue.answered.add(row);
    queue.fill();
    show();
  }, clear);
}

async function goTo(row) {
  const item = await getJson(`/api/particle/${row}`, { annotator: annotator() });
  queue.putFirst(item);
  show();
  byId("particle").focus();
}

// --- following the server --------------------------------------------------------------------------------------------

function reloadMap() { if (state && state.learning.has_map) map.load().catch(() => {}); }

async function updateState() {
  try {
    state = await getJson("/api/state", { annotator: annotator() });
  } catch (error) {
    showFault(error.status === 401 ? error.message : "The server does not answer; your labels are kept and sent once it does.");
    return;
  }
  showState();
  if (state.learning.round !== mapRound) {
    mapRound = state.learning.round;
    reloadMap();
    queue.renew();
  } else queue.fill();
}

// --- keys ------------------------------------------------------------------------------------------------------------

const KEYS = {
  u: () => answer("unsure", ""), j: () => answer("junk", ""), s: () => answer("skip", ""), z: undo,
  n: () => enterClass(annotator(), (name) => { announce(`New class ${name}`); updateState(); }),
  g: () => findParticle(goTo), f: () => { if (state) showFinish(state, annotator()); },
  m: () => byId("map").focus(), "?": () => byId("help-dialog").showModal(),
  "[": () => viewer.nudge(byId("low-pass"), -1), "]": () => viewer.nudge(byId("low-pass"), 1),
  "-": () => viewer.nudge(byId("contrast"), -1), "+": () => viewer.nudge(byId("contrast"), 1), "=": () => viewer.nudge(byId("contrast"), 1),
  ",": () => viewer.nudge(byId("thickness"), -1), ".": () => viewer.nudge(byId("thickness"), 1),
  arrowup: () => viewer.scroll(viewer.focused, -1), arrowdown: () => viewer.scroll(viewer.focused, 1),
  arrowleft: () => viewer.scroll(viewer.focused, -1), arrowright: () => viewer.scroll(viewer.focused, 1),
  home: () => viewer.center(),
};

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input") && !(event.target.type === "range" && /^[a-z0-9?]$/i.test(event.key));
  if (isOpen() || isTyping || event.altKey || event.metaKey || event.isComposing) return;
  const key = event.key.toLowerCase();
  if (event.ctrlKey && key !== "z") return;
  const entry = state && state.classes[Number(key) - 1];
  const action = /^[1-9]$/.test(key) ? entry && (() => answer("label", entry.name)) : KEYS[key];
  if (!action || event.repeat && !key.startsWith("arrow")) return; // holding a key down is no second answer
  event.preventDefault();
  action();
});

for (const [id, key] of [["unsure", "u"], ["junk", "j"], ["skip", "s"], ["undo", "z"], ["new-class", "n"], ["find", "g"], ["help", "?"], ["finish", "f"]]) {
  byId(id).addEventListener("click", KEYS[key]);
}
byId("annotator").addEventListener("change", () => {
  sessionStorage.setItem(NAME, annotator());
  history.length = 0; // of another annotator
  queue.items = queue.items.slice(0, 1);
  updateState();
});
window.addEventListener("beforeunload", (event) => { if (outbox.count) event.preventDefault(); });

prepareDialogs();
showSaved(outbox.count);
updateState();
setInterval(updateState, 1000 * POLL_SECONDS);
