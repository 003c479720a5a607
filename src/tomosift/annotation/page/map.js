// All particles in the plane. A line drawn around some, or the nearest of one by keyboard, takes them together.

import { getJson } from "./server.js";
import { fit } from "./volume.js";

const RANGE = 4095, MARGIN = 0.03, NEAR_PIXELS = 24, NEAREST = 20;

export class ParticleMap {
  constructor(canvas, detail, chosen, opened) {
    this.canvas = canvas;
    this.detail = detail;
    this.chosen = chosen; // called with the rows of a lasso
    this.opened = opened; // called with one row
    this.data = { names: [], rows: [], x: [], y: [], label: [], guess: [] };
    this.path = null;
    this.cursor = -1;
    this.taken = new Set();
    this.row = -1;
    canvas.addEventListener("pointerdown", (event) => { this.begin(event); });
    canvas.addEventListener("pointermove", (event) => { this.move(event); });
    canvas.addEventListener("pointerup", () => { this.end(); });
    canvas.addEventListener("dblclick", () => { if (this.cursor >= 0) this.opened(this.data.rows[this.cursor]); });
    canvas.addEventListener("keydown", (event) => { this.key(event); });
    this.waiting = false;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  async load() {
    this.data = await getJson("/api/map");
    this.draw();
  }

  /** A label that was just given; the server is not asked for it. */
  note(row, name) {
    const k = this.data.rows.indexOf(row);
    if (k >= 0) this.data.label[k] = this.data.names.indexOf(name);
  }

  /** Mark the particle that is shown. */
  mark(row) { this.row = row; this.draw(); }

  get size() { return [this.canvas.width, this.canvas.height]; }

  place(k) {
    const [width, height] = this.size;
    const along = (value, size) => size * (MARGIN + (1 - 2 * MARGIN) * value / RANGE);
    return [along(this.data.x[k], width), along(this.data.y[k], height)];
  }

  /** Draw before the next frame, once however often it is asked for. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }

  paint() {
    const ratio = fit(this.canvas), context = this.canvas.getContext("2d"), style = getComputedStyle(this.canvas);
    const color = (name) => style.getPropertyValue(name);
    const colors = this.data.names.map((_, k) => (k === this.data.names.length - 1 ? color("--muted") : color(`--c${k % 8}`)));
    const few = this.data.rows.length < 4000 ? 1 : 0.6;
    context.clearRect(0, 0, ...this.size);
    for (const labeled of [false, true]) {
      for (let k = 0; k < this.data.rows.length; k++) {
        if ((this.data.label[k] >= 0) !== labeled) continue;
        const [x, y] = this.place(k), name = labeled ? this.data.label[k] : this.data.guess[k];
        context.globalAlpha = labeled ? 1 : name < 0 ? 0.5 : 0.42;
        context.fillStyle = name < 0 ? color("--muted") : colors[name];
        mark(context, name < 0 ? 0 : name % 4, x, y, ratio * few * (labeled ? 5 : 3));
        if (labeled) { context.strokeStyle = color("--ink"); context.lineWidth = ratio; context.stroke(); }
      }
    }
    context.globalAlpha = 1;
    context.strokeStyle = color("--ink");
    for (const k of this.taken) this.ring(context, k, 6 * ratio, ratio);
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
    context.arc(...this.place(k), radius, 0, 2 * Math.PI);
    context.stroke();
  }

  point(event) {
    const frame = this.canvas.getBoundingClientRect(), [width, height] = this.size;
    return [(event.clientX - frame.left) / frame.width * width, (event.clientY - frame.top) / frame.height * height];
  }

  begin(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.path = [this.point(event)];
    this.taken.clear();
  }

  move(event) {
    const at = this.point(event);
    if (this.path) this.path.push(at);
    else this.point_at(this.nearest(at));
    this.draw();
  }

  end() {
    const path = this.path || [];
    this.path = null;
    const across = (values) => Math.max(...values) - Math.min(...values);
    const isLine = path.length > 2 && across(path.map(([x]) => x)) + across(path.map(([, y]) => y)) > 20;
    if (isLine) {
      for (let k = 0; k < this.data.rows.length; k++) {
        if (this.data.label[k] < 0 && inside(path, ...this.place(k))) this.taken.add(k); // what is labeled stays as it is
      }
      this.finish();
    }
    this.draw();
  }

  finish() {
    if (this.taken.size) this.chosen([...this.taken].map((k) => this.data.rows[k]));
  }

  letGo() { this.taken.clear(); this.draw(); }

  nearest([x, y], most = NEAR_PIXELS * (window.devicePixelRatio || 1)) {
    let best = -1, distance = most ** 2;
    for (let k = 0; k < this.data.rows.length; k++) {
      const [a, b] = this.place(k), d = (a - x) ** 2 + (b - y) ** 2;
      if (d < distance) { distance = d; best = k; }
    }
    return best;
  }

  point_at(k) {
    if (k === this.cursor) return;
    this.cursor = k;
    if (k < 0) { this.detail.textContent = ""; return; }
    const { rows, names, label, guess } = this.data;
    const said = label[k] >= 0 ? `labeled ${names[label[k]]}` : guess[k] >= 0 ? `guessed ${names[guess[k]]}` : "no guess";
    this.detail.textContent = `Particle ${(rows[k] + 1).toLocaleString("en")}, ${said}. Double click or Enter shows it.`;
  }

  key(event) {
    const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) this.step(...step);
    else if (event.key === "Enter" && this.cursor >= 0) this.opened(this.data.rows[this.cursor]);
    else if (event.key.toLowerCase() === "l" && this.cursor >= 0) this.takeNearest();
    else if (event.key === "Escape") { this.letGo(); this.canvas.blur(); }
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.draw();
  }

  step(right, down) {
    const [width, height] = this.size;
    const from = this.cursor < 0 ? [width / 2, height / 2] : this.place(this.cursor);
    let best = -1, cost = Infinity;
    for (let k = 0; k < this.data.rows.length; k++) {
      const [x, y] = this.place(k), dx = x - from[0], dy = y - from[1];
      const along = dx * right + dy * down, aside = Math.abs(dx * down) + Math.abs(dy * right);
      if (k !== this.cursor && along > 0 && along + 2 * aside < cost) { cost = along + 2 * aside; best = k; }
    }
    if (best >= 0) this.point_at(best);
  }

  /** Without a pointer: the twenty nearest unlabeled ones of the particle under the cursor. */
  takeNearest() {
    const [x, y] = this.place(this.cursor);
    const free = this.data.rows.map((_, k) => k).filter((k) => this.data.label[k] < 0);
    const distance = (k) => { const [a, b] = this.place(k); return (a - x) ** 2 + (b - y) ** 2; };
    this.taken = new Set(free.sort((a, b) => distance(a) - distance(b)).slice(0, NEAREST));
    this.finish();
  }
}

/** A filled circle, square, triangle or diamond: color alone would not tell classes apart for everybody. */
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

const inside = (path, x, y) => {
  let odd = false;
  for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
    const [ax, ay] = path[i], [bx, by] = path[j];
    if ((ay > y) !== (by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax) odd = !odd;
  }
  return odd;
};
