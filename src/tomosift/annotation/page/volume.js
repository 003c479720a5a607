// A subtomogram: fetched once, low-pass filtered, displayed as sections.

import { getBytes } from "./server.js";

const COHERENT = 3; // sections over which the noise is correlated; a mean of more has less noise, and gets more contrast

export class Volume {
  constructor(bytes, edge) {
    this.edge = edge;
    this.raw = bytes;
    this.sigma = -1;
    this.values = null;
    this.mean = 0;
    this.deviation = 1;
  }

  static async fetch(row) {
    const { bytes, headers } = await getBytes(`/api/subtomogram/${row}`);
    return new Volume(bytes, Number(headers.get("X-Tomosift-Edge")));
  }

  /** Smooth by a Gaussian of this standard deviation in voxels, if that is not done already. */
  smooth(sigma) {
    if (sigma === this.sigma) return this;
    this.sigma = sigma;
    this.values = blurred(Float32Array.from(this.raw), this.edge, sigma);
    let sum = 0, squares = 0;
    for (const value of this.values) { sum += value; squares += value * value; }
    this.mean = sum / this.values.length;
    this.deviation = Math.sqrt(Math.max(squares / this.values.length - this.mean ** 2, 1e-6));
    return this;
  }

  /** Values of black and white; the range is asymmetric, since density is the bright tail. */
  limits(contrast) {
    return [this.mean - 2.2 * this.deviation / contrast, this.mean + 3.4 * this.deviation / contrast];
  }

  /** Gray pixels of a section, axis 0 for xy at this z, 1 for xz, 2 for yz; rows go down. A thick section is a mean. */
  section(axis, at, contrast, thickness) {
    const n = this.edge, first = Math.max(0, at - (thickness >> 1)), last = Math.min(n - 1, at + (thickness >> 1));
    const [low, high] = this.limits(contrast * Math.sqrt((last - first + 1 + COHERENT) / (1 + COHERENT))), scale = 255 / (high - low);
    const picture = new ImageData(n, n), pixels = new Uint32Array(picture.data.buffer);
    const strides = [[n, 1, n * n], [n * n, 1, n], [n * n, n, 1]][axis];
    for (let down = 0; down < n; down++) {
      for (let right = 0; right < n; right++) {
        let sum = 0;
        for (let k = first; k <= last; k++) sum += this.values[k * strides[2] + down * strides[0] + right * strides[1]];
        const gray = Math.max(0, Math.min(255, (sum / (last - first + 1) - low) * scale)) | 0;
        pixels[down * n + right] = 0xff000000 | (gray << 16) | (gray << 8) | gray;
      }
    }
    return picture;
  }
}

/** Half of the amplitude passes at this resolution: exp(-2 pi^2 sigma^2 / resolution^2) = 1/2. */
export const sigmaOf = (resolutionVoxels) => resolutionVoxels * Math.sqrt(Math.LN2 / 2) / Math.PI;

const blurred = (values, n, sigma) => {
  if (sigma < 0.1) return values;
  const reach = Math.ceil(3 * sigma), kernel = [];
  for (let k = -reach; k <= reach; k++) kernel.push(Math.exp(-0.5 * (k / sigma) ** 2));
  const total = kernel.reduce((a, b) => a + b);
  let from = values, to = new Float32Array(values.length);
  const line = new Float32Array(n + 2 * reach);
  for (const stride of [1, n, n * n]) {
    for (let start = 0; start < values.length; start++) {
      if (Math.floor(start / stride) % n) continue; // lines begin where the index along their axis is 0
      for (let k = 0; k < line.length; k++) line[k] = from[start + stride * Math.max(0, Math.min(n - 1, k - reach))];
      for (let k = 0; k < n; k++) {
        let sum = 0;
        for (let j = 0; j < kernel.length; j++) sum += kernel[j] * line[k + j];
        to[start + stride * k] = sum / total;
      }
    }
    [from, to] = [to, from === values ? new Float32Array(values.length) : from];
  }
  return from;
};

/** Draw gray pixels over a whole canvas, sharp on fine screens. */
export const paint = (canvas, picture) => {
  fit(canvas);
  const small = new OffscreenCanvas(picture.width, picture.height);
  small.getContext("2d").putImageData(picture, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  return context;
};

/** Give a canvas as many pixels as it covers on the screen. */
export const fit = (canvas) => {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  return ratio;
};
