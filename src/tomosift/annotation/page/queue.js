// What is asked next: always some particles ahead, boxes included, so that an answer shows the next one at once.

import { getJson } from "./server.js";
import { Volume } from "./volume.js";

const AHEAD = 6, KEPT = 3, MOST_BOXES = 200, MOST_NAMED = 64;

export class Queue {
  constructor(annotator, unsent, sigma, arrived) {
    this.annotator = annotator;
    this.unsent = unsent; // rows that are answered but perhaps not known to the server
    this.sigma = sigma;
    this.arrived = arrived; // called with whether there was nothing to show before
    this.items = [];
    this.boxes = new Map();
    this.answered = new Set();
    this.round = -1;
    this.asking = false;
    this.exhausted = false;
  }

  get current() { return this.items[0] || null; }

  /** The box of a row, fetched once; the oldest of many are forgotten. */
  box(row) {
    let found = this.boxes.get(row);
    if (!found) {
      found = Volume.fetch(row).then((volume) => volume.smooth(this.sigma()));
      found.catch(() => this.boxes.delete(row));
      found.then((volume) => { found.ready = volume; }, () => {});
      this.boxes.set(row, found);
      if (this.boxes.size > MOST_BOXES) this.boxes.delete(this.boxes.keys().next().value);
    }
    return found;
  }

  /** Go on to the next particle. */
  advance() {
    const item = this.items.shift();
    if (item) this.answered.add(item.row);
    this.fill();
  }

  /** Show this one now, and what was shown after it. */
  putFirst(item) {
    this.answered.delete(item.row);
    this.items = [item, ...this.items.filter((other) => other.row !== item.row)];
    this.box(item.row);
  }

  /** Ask for more when few are left. */
  fill() { return this.items.length < AHEAD ? this.ask([]) : undefined; }

  /** The model has learned: guesses of what waits are renewed, and all but the next few are chosen anew. */
  renew() { return this.ask(this.items.slice(KEPT).map((item) => item.row)); }

  async ask(dropped) {
    if (this.asking) return;
    this.asking = true;
    const kept = this.items.map((item) => item.row).filter((row) => !dropped.includes(row));
    try {
      const have = [...new Set([...kept, ...this.unsent()])].slice(-MOST_NAMED);
      const said = await getJson("/api/next", { annotator: this.annotator(), count: 8, have });
      // What is there already is shown until the boxes of what comes are there as well.
      const boxes = said.next.map((item) => this.box(item.row));
      if (this.items.length) await Promise.allSettled(boxes);
      const renewed = new Map(said.have.map((item) => [item.row, item]));
      // Answers may have been given meanwhile: what is on the screen stays there, what is answered does not come back.
      const staying = this.items.filter((item, k) => k === 0 || !dropped.includes(item.row));
      for (const item of staying) {
        const { guesses, examples } = renewed.get(item.row) || item;
        Object.assign(item, { guesses, examples });
      }
      const known = new Set(staying.map((item) => item.row));
      const wasEmpty = !this.items.length;
      this.items = [...staying, ...said.next.filter(({ row }) => !known.has(row) && !this.answered.has(row))];
      this.round = said.round;
      this.exhausted = !this.items.length;
      this.arrived(wasEmpty);
    } catch {
      // The next look at the state asks again.
    } finally {
      this.asking = false;
    }
  }
}
