// Rotating maximum projection: the highest density along each line of sight, about the vertical axis.

import { paint } from "./volume.js";

const TURN_SECONDS = 9, FRAMES_PER_SECOND = 16, FARTHEST_SHADE = 0.55, FINER = 2;

export class Rotating {
  constructor(canvas) {
    this.canvas = canvas;
    this.volume = null;
    this.last = 0;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    const step = (now) => {
      requestAnimationFrame(step);
      if (!this.volume || this.still.matches || document.hidden || now - this.last < 1000 / FRAMES_PER_SECOND) return;
      this.last = now;
      this.draw(now / 1000 / TURN_SECONDS * 2 * Math.PI);
    };
    requestAnimationFrame(step);
  }

  show(volume) {
    this.volume = volume;
    this.draw(this.last / 1000 / TURN_SECONDS * 2 * Math.PI);
  }

  draw(angle) {
    if (!this.volume.values) return;
    const n = this.volume.edge, center = (n - 1) / 2, radius = n / 2 - 1, values = this.volume.values;
    const low = this.volume.mean + 0.4 * this.volume.deviation, high = this.volume.mean + 4 * this.volume.deviation;
    const scale = 255 / (high - low), cosine = Math.cos(angle), sine = Math.sin(angle);
    const size = FINER * n, picture = new ImageData(size, size), pixels = new Uint32Array(picture.data.buffer).fill(0xff000000);
    for (let down = 0; down < size; down++) {
      const y = Math.floor(down / FINER), room = radius ** 2 - (y - center) ** 2;
      for (let right = 0; room > 0 && right < size; right++) {
        const across = (right + 0.5) / FINER - 0.5 - center, depth = room - across ** 2;
        if (depth <= 0) continue;
        const reach = Math.floor(Math.sqrt(depth));
        let best = 0;
        for (let along = -reach; along <= reach; along++) {
          const x = Math.round(center + across * cosine - along * sine), z = Math.round(center + across * sine + along * cosine);
          const shade = FARTHEST_SHADE + (1 - FARTHEST_SHADE) * (0.5 - along / (2 * radius));
          const value = (values[(z * n + y) * n + x] - low) * shade;
          if (value > best) best = value;
        }
        const gray = Math.min(255, best * scale) | 0;
        pixels[down * size + right] = 0xff000000 | (gray << 16) | (gray << 8) | gray;
      }
    }
    paint(this.canvas, picture);
  }
}
