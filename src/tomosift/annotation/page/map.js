// All particles on the map. A lasso, or a key for the nearest ones, selects several at once.

import { getJson } from "./server.js";
import { fit } from "./volume.js";

const RANGE = 4095, MARGIN = 0.03, NEAR_PIXELS = 24, NEAREST = 20;

export class ParticleMap {
  constructor(canvas, detail, onSelect, onOpen) {
    this.canvas = canvas;
    this.detail = detail;
    this.onSelect = onSelect; // called with the rows of a lasso
    this.onOpen = onOpen; // called with one row
    this.data = { names: [], rows: [], x: [], y: [], label: [], prediction: [] };
    this.path = null;
    this.cursor = -1;
    this.selected = new Set();
    this.row = -1;
    canvas.addEventListener("pointerdown", (event) => { this.begin(event); });
    canvas.addEventListener("pointermove", (event) => { this.move(event); });
    canvas.addEventListener("pointerup", () => { this.end(); });
    canvas.addEventListener("dblclick", () => { if (this.cursor >= 0) this.onOpen(this.data.rows[this.cursor]); });
    canvas.addEventListener("keydown", (event) => { this.key(event); });
    this.isScheduled = false;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  async load() {
    this.data = await getJson("/api/map");
    this.draw();
  }

  /** Set the label of a row before the server confirms it. */
  setLabel(row, name) {
    const k = this.data.rows.indexOf(row);
    if (k >= 0) this.data.label[k] = this.data.names.indexOf(name);
  }

  /** Mark the particle that is shown. */
  mark(row) { this.row = row; this.draw(); }

  get size() { return [this.canvas.width, this.canvas.height]; }

  position(k) {
    const [width, height] = this.size;
    const along = (value, size) => size * (MARGIN + (1 - 2 * MARGIN) * value / RANGE);
    return [along(this.data.x[k], width), along(this.data.y[k], height)];
  }

  /** Draw before the next frame, once per frame. */
  draw() {
    if (this.isScheduled) return;
    this.isScheduled = true;
    requestAnimationFrame(() => { this.isScheduled = false; this.paint(); });
  }

  paint() {
    const ratio = fit(this.canvas), context = this.canvas.getContext("2d"), style = getComputedStyle(this.canvas);
    const color = (name) => style.getPropertyValue(name);
    const colors = this.data.names.map((_, k) => (k === this.data.names.length - 1 ? color("--muted") : color(`--c${k % 8}`)));
    const scale = this.data.rows.length < 4000 ? 1 : 0.6;
    context.clearRect(0, 0, ...this.size);
    for (const labeled of [false, true]) {
      for (let k = 0; k < this.data.rows.length; k++) {
        if ((this.data.label[k] >= 0) !== labeled) continue;
        const [x, y] = this.position(k), name = labeled ? this.data.label[k] : this.data.prediction[k];
        context.globalAlpha = labeled ? 1 : name < 0 ? 0.5 : 0.42;
        context.fillStyle = name < 0 ? color("--muted") : colors[name];
        mark(context, name < 0 ? 0 : name % 4, x, y, ratio * scale * (labeled ? 5 : 3));
        if (labeled) { context.strokeStyle = color("--ink"); context.lineWidth = ratio; context.stroke(); }
      }
    }
    context.globalAlpha = 1;
    context.strokeStyle = color("--ink");
    for (const k of this.selected) this.ring(context, k, 6 * ratio, ratio);
    if (this.cursor >= 0) this.ring(context, this.cursor, 8 * ratio, 2 * ratio);
    const shown = this.data.rows.indexOf(this.row);
    if (shown >= 0) {
      context.strokeStyle = color("--accent");
      this.ring(context, shown, 10 * ratio, 2.5 * ratio);
    }
    if (this.path) {
      context.strokeStyle = color("--accent");
      context.fillStyle = color("--accent");
      context.lineWidth = 1.5 * ratio;
      context.beginPath();
      for (const [x, y] of this.path) context.lineTo(x, y);
      context.stroke();
      context.globalAlpha = 0.12;
      context.fill();
      context.globalAlpha = 1;
    }
  }

  ring(context, k, radius, width) {
    context.lineWidth = width;
    context.beginPath();
    context.arc(...this.position(k), radius, 0, 2 * Math.PI);
    context.stroke();
  }

  point(event) {
    const frame = this.canvas.getBoundingClientRect(), [width, height] = this.size;
    return [(event.clientX - frame.left) / frame.width * width, (event.clientY - frame.top) / frame.height * height];
  }

  begin(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.path = [this.point(event)];
    this.selected.clear();
  }

  move(event) {
    const at = this.point(event);
    if (this.path) this.path.push(at);
    else this.setCursor(this.nearest(at));
    this.draw();
  }

  end() {
    const path = this.path || [];
    this.path = null;
    const across = (values) => Math.max(...values) - Math.min(...values);
    const isLasso = path.length > 2 && across(path.map(([x]) => x)) + across(path.map(([, y]) => y)) > 20;
    if (isLasso) {
      for (let k = 0; k < this.data.rows.length; k++) {
        if (this.data.label[k] < 0 && isInside(path, ...this.position(k))) this.selected.add(k); // labeled particles stay as they are
      }
      this.finish();
    }
    this.draw();
  }

  finish() {
    if (this.selected.size) this.onSelect([...this.selected].map((k) => this.data.rows[k]));
  }

  clearSelection() { this.selected.clear(); this.draw(); }

  nearest([x, y], most = NEAR_PIXELS * (window.devicePixelRatio || 1)) {
    let best = -1, distance = most ** 2;
    for (let k = 0; k < this.data.rows.length; k++) {
      const [a, b] = this.position(k), d = (a - x) ** 2 + (b - y) ** 2;
      if (d < distance) { distance = d; best = k; }
    }
    return best;
  }

  setCursor(k) {
    if (k === this.cursor) return;
    this.cursor = k;
    if (k < 0) { this.detail.textContent = ""; return; }
    const { rows, names, label, prediction } = this.data;
    const answer = label[k] >= 0 ? `labeled ${names[label[k]]}` : prediction[k] >= 0 ? `predicted ${names[prediction[k]]}` : "no prediction";
    this.detail.textContent = `Particle ${(rows[k] + 1).toLocaleString("en")}, ${answer}. Double click or Enter shows it.`;
  }

  key(event) {
    const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) this.step(...step);
    else if (event.key === "Enter" && this.cursor >= 0) this.onOpen(this.data.rows[this.cursor]);
    else if (event.key.toLowerCase() === "l" && this.cursor >= 0) this.selectNearest();
    else if (event.key === "Escape") { this.clearSelection(); this.canvas.blur(); }
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.draw();
  }

  step(right, down) {
    const [width, height] = this.size;
    const from = this.cursor < 0 ? [width / 2, height / 2] : this.position(this.cursor);
    let best = -1, cost = Infinity;
    for (let k = 0; k < this.data.rows.length; k++) {
      const [x, y] = this.position(k), dx = x - from[0], dy = y - from[1];
      const along = dx * right + dy * down, aside = Math.abs(dx * down) + Math.abs(dy * right);
      if (k !== this.cursor && along > 0 && along + 2 * aside < cost) { cost = along + 2 * aside; best = k; }
    }
    if (best >= 0) this.setCursor(best);
  }

  /** Select the twenty unlabeled particles nearest to the cursor, without a pointer. */
  selectNearest() {
    const [x, y] = this.position(this.cursor);
    const unlabeled = this.data.rows.map((_, k) => k).filter((k) => this.data.label[k] < 0);
    const distance = (k) => { const [a, b] = this.position(k); return (a - x) ** 2 + (b - y) ** 2; };
    this.selected = new Set(unlabeled.sort((a, b) => distance(a) - distance(b)).slice(0, NEAREST));
    this.finish();
  }
}

/** Draw a filled circle, square, triangle or diamond: not everybody can distinguish the classes by color. */
export const mark = (context, shape, x, y, r) => {
  context.beginPath();
  if (shape === 0) context.arc(x, y, r, 0, 2 * Math.PI);
  else if (shape === 1) context.rect(x - 0.88 * r, y - 0.88 * r, 1.76 * r, 1.76 * r);
  else {
    const corners = shape === 2 ? [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]] : [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]];
    for (const [a, b] of corners) context.lineTo(x + a * r, y + b * r);
    context.closePath();
  }
  context.fill();
};

const isInside = (path, x, y) => {
  let odd = false;
  for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
    const [ax, ay] = path[i], [bx, by] = path[j];
    if ((ay > y) !== (by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax) odd = !odd;
  }
  return odd;
};
