// Three sections through a subtomogram, each with a cross that shows the positions of the others.

import { fit, paint, sigmaOf } from "./volume.js";

const byId = (id) => document.getElementById(id);
const CROSS = [[1, 2], [0, 2], [0, 1]]; // axes whose positions are drawn as lines: down, right

export class Viewer {
  constructor() {
    this.canvases = [0, 1, 2].map((axis) => byId(`slice-${axis}`));
    this.lowPass = byId("low-pass");
    this.contrast = byId("contrast");
    this.thickness = byId("thickness");
    this.volume = null;
    this.spacing = 10;
    this.at = [0, 0, 0];
    this.canvases.forEach((canvas, axis) => {
      canvas.addEventListener("wheel", (event) => {
        event.preventDefault();
        this.scroll(axis, Math.sign(event.deltaY));
      }, { passive: false });
      canvas.addEventListener("pointerdown", (event) => { this.aim(axis, event); });
      canvas.addEventListener("pointermove", (event) => { if (event.buttons) this.aim(axis, event); });
    });
    for (const slider of [this.lowPass, this.contrast, this.thickness]) slider.addEventListener("input", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.canvases[0]);
  }

  get sigma() { return sigmaOf(Number(this.lowPass.value)); }

  show(volume) {
    this.volume = volume;
    const center = volume.edge >> 1;
    this.at = [center, center, center];
    this.draw();
  }

  draw() {
    const resolution = Number(this.lowPass.value) * this.spacing;
    byId("low-pass-value").textContent = resolution ? `${resolution.toFixed(0)} Å` : "off";
    byId("thickness-value").textContent = `${(Number(this.thickness.value) * this.spacing).toFixed(0)} Å`;
    byId("contrast-value").textContent = `× ${Number(this.contrast.value).toFixed(2)}`;
    if (!this.volume) return;
    this.volume.smooth(this.sigma);
    this.canvases.forEach((canvas, axis) => this.drawSection(canvas, axis));
  }

  drawSection(canvas, axis) {
    const n = this.volume.edge;
    const context = paint(canvas, this.volume.section(axis, this.at[axis], Number(this.contrast.value), Number(this.thickness.value)));
    const size = canvas.width, gap = size / 7, ratio = fit(canvas);
    const [down, right] = CROSS[axis].map((other) => (this.at[other] + 0.5) / n * size);
    context.strokeStyle = "rgba(120, 190, 255, .55)";
    context.lineWidth = ratio;
    context.beginPath();
    for (const [from, to] of [[0, right - gap], [right + gap, size]]) { context.moveTo(from, down); context.lineTo(to, down); }
    for (const [from, to] of [[0, down - gap], [down + gap, size]]) { context.moveTo(right, from); context.lineTo(right, to); }
    context.stroke();
    byId(`at-${axis}`).textContent = `${"zyx"[axis]} = ${this.at[axis] + 1}`;
  }

  scroll(axis, step) {
    if (!this.volume) return;
    this.at[axis] = Math.max(0, Math.min(this.volume.edge - 1, this.at[axis] + step));
    this.draw();
  }

  aim(axis, event) {
    if (!this.volume) return;
    const frame = event.target.getBoundingClientRect(), n = this.volume.edge;
    const place = [(event.clientY - frame.top) / frame.height, (event.clientX - frame.left) / frame.width];
    CROSS[axis].forEach((other, k) => { this.at[other] = Math.max(0, Math.min(n - 1, Math.floor(place[k] * n))); });
    this.draw();
  }

  /** The section that arrow keys move through: the one with the focus, else xy. */
  get focused() { return Math.max(0, this.canvases.indexOf(document.activeElement)); }

  center() { if (this.volume) this.show(this.volume); }

  nudge(slider, steps) {
    slider.value = Number(slider.value) + steps * Number(slider.step);
    this.draw();
  }
}

/** Draw a small xy picture: the mean of some sections around the center. */
export const thumbnail = (canvas, volume, sigma) => {
  volume.smooth(sigma);
  paint(canvas, volume.section(0, volume.edge >> 1, 1, (volume.edge >> 3) | 1));
};
